;; Says "growing", grows its memory by 1 MiB at a time, writing to what it got, until the host
;; denies it, and then traps as a program does that cannot go on.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\08\00\00\00") ;; one vector: 8 bytes at 16
  (data (i32.const 16) "growing\n")
  (func (export "_start")
    (local $pages i32)
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (loop $more
      (local.set $pages (memory.grow (i32.const 16)))
      (if (i32.eq (local.get $pages) (i32.const -1)) (then unreachable))
      (i32.store (i32.shl (local.get $pages) (i32.const 16)) (i32.const 1))
      (br $more))))
