//! Programs for tests, in the text format.

pub const NOTHING: &str = r#"(module (func (export "_start")))"#;

pub const ECHO: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (func (export "_start")
    (loop $again
      (i32.store (i32.const 0) (i32.const 1024))
      (i32.store (i32.const 4) (i32.const 65536))
      (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
      (if (i32.load (i32.const 8)) (then
        (i32.store (i32.const 4) (i32.load (i32.const 8)))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
        (br $again))))))"#;

/// Writes its arguments and environment as WASI lays them out, NUL-terminated.
pub const ARGS_AND_ENVIRONMENT: &str = r#"(module
  (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $env (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $env_sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 1024))
    (drop (call $args_sizes (i32.const 16) (i32.const 4)))
    (drop (call $args (i32.const 8192) (i32.const 1024)))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (drop (call $env_sizes (i32.const 16) (i32.const 4)))
    (drop (call $env (i32.const 8192) (i32.const 1024)))
    (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

/// Writes "a" and "c" to standard output with "b" to standard error in between.
pub const INTERLEAVED: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "abc")
  (func $put (param $fd i32) (param $at i32)
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (i32.const 1))
    (drop (call $write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))
  (func (export "_start")
    (call $put (i32.const 1) (i32.const 16))
    (call $put (i32.const 2) (i32.const 17))
    (call $put (i32.const 1) (i32.const 18))))"#;

pub const LOOP: &str = r#"(module (func (export "_start") (loop $forever (br $forever))))"#;

/// Sleeps for an hour.
pub const SLEEP: &str = r#"(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (i32.store (i32.const 16) (i32.const 1)) ;; the monotonic clock
    (i64.store (i32.const 24) (i64.const 3600000000000))
    (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))))"#;

pub const TRAP: &str = r#"(module (func $inner unreachable) (func $outer (export "_start") (call $inner)))"#;

/// Recurses until the stack ends.
pub const RECURSE: &str = r#"(module (func $down (param i64) (result i64)
    (i64.add (call $down (i64.add (local.get 0) (i64.const 1))) (i64.const 1)))
  (func (export "_start") (drop (call $down (i64.const 0)))))"#;

/// Recurses a given number of calls deep, 16 bytes of locals each at least, and returns.
pub fn deep(calls: u32) -> String {
    format!(
        r#"(module (func $down (param i32) (result i32)
        (if (result i32) (i32.eqz (local.get 0)) (then (i32.const 0))
          (else (i32.add (call $down (i32.sub (local.get 0) (i32.const 1))) (i32.const 1)))))
      (func (export "_start") (drop (call $down (i32.const {calls})))))"#
    )
}

pub fn exit(code: i32) -> String {
    format!(
        r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
      (memory (export "memory") 1)
      (func (export "_start") (call $exit (i32.const {code}))))"#
    )
}

/// Grows its memory page by page and aborts when refused, as allocators do.
pub const HUNGRY: &str = r#"(module (memory (export "memory") 1)
  (func (export "_start")
    (loop $more
      (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))
      (br $more))))"#;

/// Grows its memory until refused, touching each page, and ends well.
pub const CONTENT: &str = r#"(module (memory (export "memory") 1)
  (func (export "_start") (local $page i32)
    (loop $more
      (local.set $page (memory.grow (i32.const 1)))
      (if (i32.ne (local.get $page) (i32.const -1)) (then
        (i32.store (i32.mul (local.get $page) (i32.const 65536)) (i32.const 1))
        (br $more))))))"#;

pub const TABLE: &str = r#"(module (table $t 1 funcref)
  (func (export "_start")
    (if (i32.eq (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1)) (then unreachable))))"#;

/// Traps unless every byte of a fresh memory is zero, then dirties it.
pub const DIRTY: &str = r#"(module (memory (export "memory") 8)
  (func (export "_start") (local $at i32)
    (loop $next
      (if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then unreachable))
      (i64.store (local.get $at) (i64.const -1))
      (local.set $at (i32.add (local.get $at) (i32.const 4096)))
      (br_if $next (i32.lt_u (local.get $at) (i32.const 524288))))))"#;

/// Makes one host call after the other, `times` in all, and writes each answer and a newline.
pub fn host_calls(module: &str, request: &str, times: u32, capacity: u32) -> String {
    format!(
        r#"(module
      (import "{module}" "host_call" (func $host (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 2)
      (data (i32.const 1024) "{data}")
      (func (export "_start") (local $left i32) (local $length i32)
        (local.set $left (i32.const {times}))
        (loop $again
          (local.set $length (call $host (i32.const 1024) (i32.const {length}) (i32.const 65536) (i32.const {capacity})))
          (if (i32.eq (local.get $length) (i32.const -1)) (then unreachable))
          (i32.store8 (i32.add (i32.const 65536) (local.get $length)) (i32.const 10))
          (i32.store (i32.const 0) (i32.const 65536))
          (i32.store (i32.const 4) (i32.add (local.get $length) (i32.const 1)))
          (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
          (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))))"#,
        data = request.replace('\\', "\\\\").replace('"', "\\\""),
        length = request.len(),
    )
}

/// Tries each thing on its first directory (file descriptor 3) and writes a digit per attempt: 0 if it
/// succeeded, 1 if it was refused. Reads `path`, then creates the file `made`.
pub fn files(path: &str) -> String {
    format!(
        r#"(module
      (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 1024) "{path}")
      (data (i32.const 2048) "made")
      (func $say (param $refused i32)
        (i32.store8 (i32.const 64) (i32.add (i32.const 48) (i32.ne (local.get $refused) (i32.const 0))))
        (i32.store (i32.const 0) (i32.const 64))
        (i32.store (i32.const 4) (i32.const 1))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
      (func (export "_start") (local $refused i32)
        (local.set $refused (call $open (i32.const 3) (i32.const 1) (i32.const 1024) (i32.const {length})
          (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 16)))
        (call $say (local.get $refused))
        (if (i32.eqz (local.get $refused)) (then
          (i32.store (i32.const 0) (i32.const 4096))
          (i32.store (i32.const 4) (i32.const 100))
          (drop (call $read (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 4)))
          (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))
        (call $say (call $open (i32.const 3) (i32.const 0) (i32.const 2048) (i32.const 4)
          (i32.const 1) (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 16)))))"#,
        length = path.len(),
    )
}

/// Opens the file `file` in its first directory, over and over, until that is refused.
pub const OPEN_FOREVER: &str = r#"(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024) "file")
  (func (export "_start")
    (loop $again
      (br_if $again (i32.eqz (call $open (i32.const 3) (i32.const 1) (i32.const 1024) (i32.const 4)
        (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 16)))))))"#;

/// A component whose `run` returns the given value (0 well, 1 not).
pub fn component(result: i32) -> String {
    format!(
        r#"(component
      (core module $m (func (export "run") (result i32) (i32.const {result})))
      (core instance $i (instantiate $m))
      (func $run (result (result)) (canon lift (core func $i "run")))
      (instance $r (export "run" (func $run)))
      (export "wasi:cli/run@0.2.0" (instance $r)))"#
    )
}

/// A component that writes "hello" to its standard output.
pub const HELLO_COMPONENT: &str = r#"(component
  (import "wasi:io/error@0.2.0" (instance $error (export "error" (type (sub resource)))))
  (alias export $error "error" (type $error_type))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (export "output-stream" (type $stream (sub resource)))
    (alias outer 1 $error_type (type $e))
    (export "error" (type $err (eq $e)))
    (type $failure (variant (case "last-operation-failed" (own $err)) (case "closed")))
    (export "stream-error" (type $stream_error (eq $failure)))
    (export "[method]output-stream.blocking-write-and-flush"
      (func (param "self" (borrow $stream)) (param "contents" (list u8)) (result (result (error $stream_error)))))))
  (alias export $streams "output-stream" (type $stream))
  (import "wasi:cli/stdout@0.2.0" (instance $stdout
    (alias outer 1 $stream (type $s))
    (export "output-stream" (type $out (eq $s)))
    (export "get-stdout" (func (result (own $out))))))
  (core module $memory (memory (export "memory") 1) (data (i32.const 0) "hello"))
  (core instance $memory (instantiate $memory))
  (core func $get (canon lower (func $stdout "get-stdout")))
  (core func $write (canon lower (func $streams "[method]output-stream.blocking-write-and-flush")
    (memory (core memory $memory "memory"))))
  (core module $main
    (import "host" "get" (func $get (result i32)))
    (import "host" "write" (func $write (param i32 i32 i32 i32)))
    (func (export "run") (result i32)
      (call $write (call $get) (i32.const 0) (i32.const 5) (i32.const 64))
      (i32.const 0)))
  (core instance $main (instantiate $main
    (with "host" (instance (export "get" (func $get)) (export "write" (func $write))))))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $r (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $r)))"#;

/// Throws and catches exceptions, `times` in all, then waits for input.
pub fn exceptions(times: u32) -> String {
    format!(
        r#"(module
      (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 4) "\01")
      (tag $oops (param i32))
      (func $risky (throw $oops (i32.const 7)))
      (func (export "_start") (local $left i32)
        (local.set $left (i32.const {times}))
        (loop $again
          (block $caught (result i32)
            (try_table (catch $oops $caught) (call $risky))
            (i32.const 0))
          (if (i32.ne (i32.const 7)) (then unreachable))
          (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
        (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))))"#
    )
}
