//! A guest that does nothing by itself: a module with a function around each import, called from the test.

use super::super::{Config, View, Wasi, add_to_linker};
use wasmtime::{Engine, Instance, Linker, Memory, Module, Store, Val};

/// Names of the calls with their parameters: `i` has four bytes, `I` eight.
const CALLS: &[(&str, &str)] = &[
    ("args_get", "ii"),
    ("args_sizes_get", "ii"),
    ("environ_get", "ii"),
    ("environ_sizes_get", "ii"),
    ("clock_res_get", "ii"),
    ("clock_time_get", "iIi"),
    ("fd_advise", "iIIi"),
    ("fd_allocate", "iII"),
    ("fd_close", "i"),
    ("fd_datasync", "i"),
    ("fd_fdstat_get", "ii"),
    ("fd_fdstat_set_flags", "ii"),
    ("fd_fdstat_set_rights", "iII"),
    ("fd_filestat_get", "ii"),
    ("fd_filestat_set_size", "iI"),
    ("fd_filestat_set_times", "iIIi"),
    ("fd_pread", "iiiIi"),
    ("fd_prestat_get", "ii"),
    ("fd_prestat_dir_name", "iii"),
    ("fd_pwrite", "iiiIi"),
    ("fd_read", "iiii"),
    ("fd_readdir", "iiiIi"),
    ("fd_renumber", "ii"),
    ("fd_seek", "iIii"),
    ("fd_sync", "i"),
    ("fd_tell", "ii"),
    ("fd_write", "iiii"),
    ("path_create_directory", "iii"),
    ("path_filestat_get", "iiiii"),
    ("path_filestat_set_times", "iiiiIIi"),
    ("path_link", "iiiiiii"),
    ("path_open", "iiiiiIIii"),
    ("path_readlink", "iiiiii"),
    ("path_remove_directory", "iii"),
    ("path_rename", "iiiiii"),
    ("path_symlink", "iiiii"),
    ("path_unlink_file", "iii"),
    ("poll_oneoff", "iiii"),
    ("proc_raise", "i"),
    ("random_get", "ii"),
    ("sched_yield", ""),
    ("sock_accept", "iii"),
    ("sock_recv", "iiiiii"),
    ("sock_send", "iiiii"),
    ("sock_shutdown", "ii"),
];

/// Where things are in the guest's memory.
pub const RESULT: u32 = 0;
const PIECES: u32 = 64;
const PATH: u32 = 1024;
const SECOND_PATH: u32 = 8192;
pub const BUFFER: u32 = 16384;
pub const END: u32 = 4 << 16;

pub const CREATE: u32 = 1;
pub const DIRECTORY: u32 = 2;
pub const EXCLUSIVE: u32 = 4;
pub const TRUNCATE: u32 = 8;
pub const READ: u64 = 1 << 1;
pub const WRITE: u64 = 1 << 6;
pub const APPEND: u32 = 1;

impl View for Wasi {
    fn wasi(&mut self) -> &mut Wasi {
        self
    }
}

pub struct Guest {
    pub store: Store<Wasi>,
    instance: Instance,
    memory: Memory,
}

fn module() -> String {
    let kinds = |signature: &str| {
        let kinds = signature.chars().map(|kind| if kind == 'i' { " i32" } else { " i64" });
        kinds.collect::<String>()
    };
    let (mut imports, mut functions) = (String::new(), String::new());
    for (name, signature) in CALLS {
        let parameters = kinds(signature);
        let module = super::super::calls::MODULE;
        imports += &format!("(import {module:?} {name:?} (func ${name} (param{parameters}) (result i32)))\n");
        let passed: String = (0..signature.len()).map(|index| format!(" (local.get {index})")).collect();
        functions += &format!("(func (export {name:?}) (param{parameters}) (result i32) (call ${name}{passed}))\n");
    }
    let exit = r#"(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))"#;
    let call_exit = r#"(func (export "exit") (param i32) (result i32) (call $exit (local.get 0)) (i32.const 0))"#;
    format!("(module {imports} {exit} (memory (export \"memory\") 4) {functions} {call_exit})")
}

impl Guest {
    pub async fn new(config: Config) -> Guest {
        let engine = Engine::default();
        let mut linker = Linker::new(&engine);
        add_to_linker::<Wasi>(&mut linker).unwrap();
        let module = Module::new(&engine, wat::parse_str(module()).unwrap()).unwrap();
        let mut store = Store::new(&engine, Wasi::new(config));
        let instance = linker.instantiate_async(&mut store, &module).await.unwrap();
        let memory = instance.get_memory(&mut store, "memory").unwrap();
        Guest { store, instance, memory }
    }

    pub async fn try_call(&mut self, name: &str, arguments: &[u64]) -> wasmtime::Result<Result<(), u16>> {
        let signature = CALLS.iter().find(|(known, _)| *known == name).map_or("i", |(_, signature)| signature);
        assert_eq!(signature.len(), arguments.len(), "{name}");
        let values = signature.chars().zip(arguments).map(|(kind, value)| match kind {
            'i' => Val::I32(*value as u32 as i32),
            _ => Val::I64(*value as i64),
        });
        let function = self.instance.get_func(&mut self.store, name).unwrap();
        let mut result = [Val::I32(0)];
        function.call_async(&mut self.store, &values.collect::<Vec<_>>(), &mut result).await?;
        Ok(match result[0].unwrap_i32() {
            0 => Ok(()),
            errno => Err(errno as u16),
        })
    }

    pub async fn call(&mut self, name: &str, arguments: &[u64]) -> Result<(), u16> {
        self.try_call(name, arguments).await.unwrap()
    }

    pub fn set(&mut self, at: u32, bytes: &[u8]) {
        self.memory.write(&mut self.store, at as usize, bytes).unwrap();
    }

    pub fn get(&self, at: u32, length: u32) -> Vec<u8> {
        self.memory.data(&self.store)[at as usize..(at + length) as usize].to_vec()
    }

    pub fn u32(&self, at: u32) -> u32 {
        u32::from_le_bytes(self.get(at, 4).try_into().unwrap())
    }

    pub fn u64(&self, at: u32) -> u64 {
        u64::from_le_bytes(self.get(at, 8).try_into().unwrap())
    }

    /// One iovec for each range.
    fn pieces(&mut self, ranges: &[(u32, u32)]) {
        for (at, (start, length)) in (PIECES..).step_by(8).zip(ranges) {
            self.set(at, &start.to_le_bytes());
            self.set(at + 4, &length.to_le_bytes());
        }
    }

    pub async fn open(&mut self, path: &str, flags: u32, rights: u64, options: u32) -> Result<u32, u16> {
        self.set(PATH, path.as_bytes());
        let (at, length) = (u64::from(PATH), path.len() as u64);
        let arguments = [3, 1, at, length, flags.into(), rights, !0, options.into(), RESULT.into()];
        self.call("path_open", &arguments).await?;
        Ok(self.u32(RESULT))
    }

    pub async fn close(&mut self, fd: u32) -> Result<(), u16> {
        self.call("fd_close", &[fd.into()]).await
    }

    /// Writes bytes in two pieces.
    pub async fn write(&mut self, fd: u32, bytes: &[u8]) -> Result<u32, u16> {
        self.set(BUFFER, bytes);
        let half = bytes.len() as u32 / 2;
        self.pieces(&[(BUFFER, half), (BUFFER + half, bytes.len() as u32 - half)]);
        self.call("fd_write", &[fd.into(), PIECES.into(), 2, RESULT.into()]).await?;
        Ok(self.u32(RESULT))
    }

    pub async fn read(&mut self, fd: u32, length: u32) -> Result<Vec<u8>, u16> {
        self.pieces(&[(BUFFER, 3.min(length)), (BUFFER + 3.min(length), length.saturating_sub(3))]);
        self.call("fd_read", &[fd.into(), PIECES.into(), 2, RESULT.into()]).await?;
        Ok(self.get(BUFFER, self.u32(RESULT)))
    }

    pub async fn pread(&mut self, fd: u32, offset: u64, length: u32) -> Result<Vec<u8>, u16> {
        self.pieces(&[(BUFFER, length)]);
        self.call("fd_pread", &[fd.into(), PIECES.into(), 1, offset, RESULT.into()]).await?;
        Ok(self.get(BUFFER, self.u32(RESULT)))
    }

    pub async fn pwrite(&mut self, fd: u32, offset: u64, bytes: &[u8]) -> Result<u32, u16> {
        self.set(BUFFER, bytes);
        self.pieces(&[(BUFFER, bytes.len() as u32)]);
        self.call("fd_pwrite", &[fd.into(), PIECES.into(), 1, offset, RESULT.into()]).await?;
        Ok(self.u32(RESULT))
    }

    pub async fn seek(&mut self, fd: u32, offset: i64, whence: u32) -> Result<u64, u16> {
        self.call("fd_seek", &[fd.into(), offset as u64, whence.into(), RESULT.into()]).await?;
        Ok(self.u64(RESULT))
    }

    /// `path_create_directory`, `path_remove_directory` or `path_unlink_file`.
    pub async fn on_path(&mut self, name: &str, path: &str) -> Result<(), u16> {
        self.set(PATH, path.as_bytes());
        self.call(name, &[3, PATH.into(), path.len() as u64]).await
    }

    pub async fn rename(&mut self, from: &str, to: &str) -> Result<(), u16> {
        self.set(PATH, from.as_bytes());
        self.set(SECOND_PATH, to.as_bytes());
        let arguments = [3, PATH.into(), from.len() as u64, 3, SECOND_PATH.into(), to.len() as u64];
        self.call("path_rename", &arguments).await
    }

    pub async fn symlink(&mut self, target: &str, path: &str) -> Result<(), u16> {
        self.set(PATH, target.as_bytes());
        self.set(SECOND_PATH, path.as_bytes());
        let arguments = [PATH.into(), target.len() as u64, 3, SECOND_PATH.into(), path.len() as u64];
        self.call("path_symlink", &arguments).await
    }

    pub async fn link(&mut self, from: &str, to: &str) -> Result<(), u16> {
        self.set(PATH, from.as_bytes());
        self.set(SECOND_PATH, to.as_bytes());
        let arguments = [3, 0, PATH.into(), from.len() as u64, 3, SECOND_PATH.into(), to.len() as u64];
        self.call("path_link", &arguments).await
    }

    /// Type, links, size and time of the last change.
    pub async fn stat(&mut self, path: &str, follow: bool) -> Result<(u8, u64, u64, u64), u16> {
        self.set(PATH, path.as_bytes());
        let arguments = [3, follow.into(), PATH.into(), path.len() as u64, BUFFER.into()];
        self.call("path_filestat_get", &arguments).await?;
        let stat = BUFFER;
        Ok((self.get(stat + 16, 1)[0], self.u64(stat + 24), self.u64(stat + 32), self.u64(stat + 48)))
    }

    /// Entries that are complete in one part of a listing: cookie and name.
    pub async fn list(&mut self, fd: u32, cookie: u64, room: u32) -> Result<(Vec<(u64, String)>, bool), u16> {
        self.call("fd_readdir", &[fd.into(), BUFFER.into(), room.into(), cookie, RESULT.into()]).await?;
        let used = self.u32(RESULT);
        let (mut at, mut entries) = (0, Vec::new());
        while at + 24 <= used {
            let length = self.u32(BUFFER + at + 16);
            if at + 24 + length > used {
                break;
            }
            let name = String::from_utf8(self.get(BUFFER + at + 24, length)).unwrap();
            entries.push((self.u64(BUFFER + at), name));
            at += 24 + length;
        }
        Ok((entries, used < room))
    }
}
