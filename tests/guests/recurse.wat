;; Says "descending" and calls itself until the stack is used up. The addition after the call
;; keeps it from being a tail call.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\0b\00\00\00") ;; one vector: 11 bytes at 16
  (data (i32.const 16) "descending\n")
  (func $descend (param $depth i32) (result i32)
    (i32.add (local.get $depth) (call $descend (i32.add (local.get $depth) (i32.const 1)))))
  (func (export "_start")
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (drop (call $descend (i32.const 0)))))
