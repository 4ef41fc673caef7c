//! Small guests, as text: each does one thing.

/// WASI imports that the guests share, a memory, and `$out`, which writes bytes to a stream.
fn module(pages: u32, body: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (import "clawbox" "host_call" (func $host_call (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") {pages})
  ;; Reads up to $len bytes of standard input to $at; answers how many.
  (func $in (param $at i32) (param $len i32) (result i32)
    (i32.store (i32.const 0) (local.get $at)) (i32.store (i32.const 4) (local.get $len))
    (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
    (i32.load (i32.const 8)))
  ;; Writes all $len bytes at $at to stream $fd.
  (func $out (param $fd i32) (param $at i32) (param $len i32)
    (loop $more
      (if (local.get $len) (then
        (i32.store (i32.const 0) (local.get $at)) (i32.store (i32.const 4) (local.get $len))
        (drop (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)))
        (local.set $at (i32.add (local.get $at) (i32.load (i32.const 8))))
        (local.set $len (i32.sub (local.get $len) (i32.load (i32.const 8))))
        (br $more)))))
  {body})"#
    );
    wat::parse_str(&text).unwrap()
}

/// Copies standard input to standard output as it comes.
pub fn cat() -> Vec<u8> {
    module(
        2,
        r#"(func (export "_start") (local $n i32)
            (loop $more
              (local.set $n (call $in (i32.const 4096) (i32.const 32768)))
              (if (local.get $n) (then (call $out (i32.const 1) (i32.const 4096) (local.get $n)) (br $more)))))"#,
    )
}

/// Writes a greeting and then loops for ever.
pub fn spin() -> Vec<u8> {
    module(
        1,
        r#"(data (i32.const 64) "spinning")
           (func (export "_start") (call $out (i32.const 1) (i32.const 64) (i32.const 8)) (loop $again (br $again)))"#,
    )
}

/// Writes "before" and exits with a code.
pub fn exit(code: u32) -> Vec<u8> {
    module(
        1,
        &format!(
            r#"(data (i32.const 64) "before")
               (func (export "_start") (call $out (i32.const 1) (i32.const 64) (i32.const 6)) (call $proc_exit (i32.const {code})))"#
        ),
    )
}

/// Writes "before" to standard error and traps.
pub fn trap() -> Vec<u8> {
    module(
        1,
        r#"(data (i32.const 64) "before")
           (func $deep unreachable)
           (func (export "_start") (call $out (i32.const 2) (i32.const 64) (i32.const 6)) (call $deep))"#,
    )
}

/// Grows its memory until that is refused, then traps.
pub fn out_of_memory() -> Vec<u8> {
    module(
        1,
        r#"(func (export "_start")
            (loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
            unreachable)"#,
    )
}

/// Calls itself for ever.
pub fn recurse() -> Vec<u8> {
    module(
        1,
        r#"(func $down (param i32) (result i32) (i32.add (i32.const 1) (call $down (i32.add (local.get 0) (i32.const 1)))))
           (func (export "_start") (drop (call $down (i32.const 0))))"#,
    )
}

/// Writes `count` chunks of 64 KiB, each byte the number of its chunk.
pub fn flood(count: u32) -> Vec<u8> {
    module(
        4,
        &format!(
            r#"(func (export "_start") (local $i i32)
                (loop $more
                  (memory.fill (i32.const 65536) (local.get $i) (i32.const 65536))
                  (call $out (i32.const 1) (i32.const 65536) (i32.const 65536))
                  (local.set $i (i32.add (local.get $i) (i32.const 1)))
                  (br_if $more (i32.lt_u (local.get $i) (i32.const {count})))))"#
        ),
    )
}

/// Sleeps for so many milliseconds in one host call, then writes "awake".
pub fn sleep(milliseconds: u64) -> Vec<u8> {
    module(
        1,
        &format!(
            // A subscription to the monotonic clock: tag 0 at 8, clock 1 at 16, timeout at 24.
            r#"(data (i32.const 400) "awake")
               (func (export "_start")
                (i32.store (i32.const 128) (i32.const 7)) (i32.store8 (i32.const 136) (i32.const 0))
                (i32.store (i32.const 144) (i32.const 1)) (i64.store (i32.const 152) (i64.const {nanoseconds}))
                (drop (call $poll_oneoff (i32.const 128) (i32.const 256) (i32.const 1) (i32.const 380)))
                (call $out (i32.const 1) (i32.const 400) (i32.const 5)))"#,
            nanoseconds = milliseconds * 1_000_000
        ),
    )
}

/// Sends standard input to the host as one call and writes the host's answer, so many times.
pub fn host_call(times: u32) -> Vec<u8> {
    module(
        4,
        &format!(
            r#"(func (export "_start") (local $n i32) (local $left i32) (local $answer i32)
                (local.set $n (call $in (i32.const 4096) (i32.const 32768)))
                (local.set $left (i32.const {times}))
                (loop $more
                  (local.set $answer (call $host_call (i32.const 4096) (local.get $n) (i32.const 65536) (i32.const 65536)))
                  (local.set $left (i32.sub (local.get $left) (i32.const 1)))
                  (br_if $more (local.get $left)))
                (call $out (i32.const 1) (i32.const 65536) (local.get $answer)))"#
        ),
    )
}

/// Writes a fixed text to standard output.
pub fn say(text: &str) -> Vec<u8> {
    let escaped: String = text.bytes().map(|byte| format!("\\{byte:02x}")).collect();
    module(
        1,
        &format!(
            r#"(data (i32.const 64) "{escaped}")
               (func (export "_start") (call $out (i32.const 1) (i32.const 64) (i32.const {})))"#,
            text.len()
        ),
    )
}
