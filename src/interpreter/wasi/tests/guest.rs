//! Files, as a guest sees them.

use super::super::Wasi;
use super::super::errno::Errno;
use super::harness::*;
use super::{base, config};
use std::collections::BTreeSet;

const BADF: u16 = Errno::BADF.0;
const EXIST: u16 = Errno::EXIST.0;
const FAULT: u16 = Errno::FAULT.0;
const INVAL: u16 = Errno::INVAL.0;
const ISDIR: u16 = Errno::ISDIR.0;
const NOENT: u16 = Errno::NOENT.0;
const NOSPC: u16 = Errno::NOSPC.0;
const NOTCAPABLE: u16 = Errno::NOTCAPABLE.0;
const NOTDIR: u16 = Errno::NOTDIR.0;

async fn guest() -> Guest {
    Guest::new(config(base(), 1 << 20)).await
}

#[tokio::test]
async fn a_file_is_written_and_read() {
    let mut guest = guest().await;
    let fd = guest.open("work/file", CREATE | EXCLUSIVE, READ | WRITE, 0).await.unwrap();
    assert_eq!(fd, 4);
    assert_eq!(guest.write(fd, b"hello world").await, Ok(11));
    assert_eq!(guest.seek(fd, -5, 2).await, Ok(6));
    assert_eq!(guest.read(fd, 100).await.unwrap(), b"world");
    assert_eq!(guest.read(fd, 100).await.unwrap(), b"");
    assert_eq!(guest.pwrite(fd, 13, b"!").await, Ok(1));
    assert_eq!(guest.pread(fd, 0, 100).await.unwrap(), b"hello world\0\0!");
    assert_eq!(guest.seek(fd, 0, 1).await, Ok(11));
    assert_eq!(guest.seek(fd, -12, 1).await, Err(INVAL));
    assert_eq!(guest.seek(fd, i64::MAX, 1).await, Err(INVAL));
    assert_eq!(guest.stat("work/file", true).await.map(|stat| (stat.0, stat.1, stat.2)), Ok((4, 1, 14)));
    assert_eq!(guest.open("work/file", CREATE | EXCLUSIVE, WRITE, 0).await, Err(EXIST));
    let append = guest.open("work/file", 0, WRITE, APPEND).await.unwrap();
    assert_eq!(guest.write(append, b"more").await, Ok(4));
    assert_eq!(guest.read(append, 1).await, Err(NOTCAPABLE));
    assert_eq!(guest.seek(append, 0, 1).await, Ok(18));
    let emptied = guest.open("work/file", TRUNCATE, READ, 0).await.unwrap();
    assert_eq!(guest.read(emptied, 1).await.unwrap(), b"");
    assert_eq!(guest.write(emptied, b"x").await, Err(NOTCAPABLE));
    for fd in [fd, append, emptied] {
        guest.close(fd).await.unwrap();
    }
    assert_eq!(guest.close(fd).await, Err(BADF));
}

#[tokio::test]
async fn opening_fails_with_the_right_number() {
    let mut guest = guest().await;
    assert_eq!(guest.open("work/nothing", 0, READ, 0).await, Err(NOENT));
    assert_eq!(guest.open("work", 0, WRITE, 0).await, Err(ISDIR));
    assert_eq!(guest.open("work/file/", CREATE, WRITE, 0).await, Err(ISDIR));
    assert_eq!(guest.open("usr/lib/library.zip", DIRECTORY, READ, 0).await, Err(NOTDIR));
    assert_eq!(guest.open("usr/lib/library.zip/x", 0, READ, 0).await, Err(NOTDIR));
    for (path, flags, rights) in
        [("usr/lib/library.zip", 0, WRITE), ("usr/lib/library.zip", TRUNCATE, READ), ("usr/new", CREATE, WRITE)]
    {
        assert_eq!(guest.open(path, flags, rights, 0).await, Err(Errno::ROFS.0), "{path}");
    }
    guest.symlink("file", "work/link").await.unwrap();
    assert_eq!(guest.symlink("file", "work/link").await, Err(EXIST));
    assert_eq!(guest.open("work/link", CREATE | EXCLUSIVE, WRITE, 0).await, Err(EXIST));
    let fd = guest.open("work/link", CREATE, WRITE, 0).await.unwrap();
    guest.write(fd, b"through").await.unwrap();
    assert_eq!(guest.stat("work/file", false).await.map(|stat| stat.2), Ok(7));
    assert_eq!(guest.stat("work/link", false).await.map(|stat| (stat.0, stat.2)), Ok((7, 4)));
    assert_eq!(guest.stat("work/../../../work/link", true).await.map(|stat| stat.0), Ok(4));
    let mut open = 0;
    let last = loop {
        match guest.open("work/file", 0, READ, 0).await {
            Ok(_) => open += 1,
            Err(errno) => break errno,
        }
    };
    assert_eq!((open, last), (251, Errno::MFILE.0));
    assert_eq!(guest.open("work/late", CREATE, WRITE, 0).await, Err(Errno::MFILE.0));
    assert_eq!(guest.stat("work/late", true).await, Err(NOENT));
}

#[tokio::test]
async fn names_move_and_go() {
    let mut guest = guest().await;
    guest.on_path("path_create_directory", "work/a").await.unwrap();
    guest.on_path("path_create_directory", "work/a/b").await.unwrap();
    assert_eq!(guest.on_path("path_create_directory", "work/a").await, Err(EXIST));
    assert_eq!(guest.rename("work/a", "work/a/b/c").await, Err(INVAL));
    assert_eq!(guest.on_path("path_remove_directory", "work/a").await, Err(Errno::NOTEMPTY.0));
    assert_eq!(guest.on_path("path_unlink_file", "work/a").await, Err(ISDIR));
    assert_eq!(guest.on_path("path_remove_directory", "work/a/.").await, Err(INVAL));
    let fd = guest.open("work/file", CREATE, READ | WRITE, 0).await.unwrap();
    guest.write(fd, b"12345").await.unwrap();
    let (_, _, _, modified) = guest.stat("work/file", true).await.unwrap();
    assert_eq!(guest.on_path("path_remove_directory", "work/file").await, Err(NOTDIR));
    assert_eq!(guest.rename("work/file", "work/a").await, Err(ISDIR));
    assert_eq!(guest.rename("work/a", "work/file").await, Err(NOTDIR));
    assert_eq!(guest.rename("work/file", "work/new/").await, Err(NOTDIR));
    guest.link("work/file", "work/a/second").await.unwrap();
    assert_eq!(guest.link("work/a", "work/b").await, Err(Errno::PERM.0));
    guest.rename("work/file", "work/moved").await.unwrap();
    // A name is not the content: its time stays.
    assert_eq!(guest.stat("work/moved", true).await, Ok((4, 2, 5, modified)));
    guest.rename("work/a/second", "work/moved").await.unwrap();
    assert_eq!(guest.stat("work/moved", true).await, Ok((4, 2, 5, modified)));
    guest.on_path("path_unlink_file", "work/moved").await.unwrap();
    guest.on_path("path_unlink_file", "work/a/second").await.unwrap();
    // Without a name it is there for who has it open, and counts until then.
    let used = guest.store.data().tree.used;
    assert_eq!(guest.pread(fd, 0, 9).await.unwrap(), b"12345");
    assert_eq!(guest.write(fd, b"678").await, Ok(3));
    assert_eq!(guest.store.data().tree.used, used + 3);
    guest.close(fd).await.unwrap();
    assert_eq!(guest.store.data().tree.used, used - 5);
}

#[tokio::test]
async fn a_listing_misses_nothing_while_names_come_and_go() {
    let mut guest = guest().await;
    let names: Vec<String> = (0..200).map(|number| format!("file-{number:03}-{}", "x".repeat(number % 40))).collect();
    for name in &names {
        let fd = guest.open(&format!("work/{name}"), CREATE, WRITE, 0).await.unwrap();
        guest.close(fd).await.unwrap();
    }
    // Rooms that hold no header, no name, one entry, many.
    for (room, remove) in [(90, false), (150, false), (4096, false), (100, true)] {
        let fd = guest.open("work", DIRECTORY, READ, 0).await.unwrap();
        let (mut cookie, mut seen) = (0, Vec::new());
        loop {
            let (entries, end) = guest.list(fd, cookie, room).await.unwrap();
            for (next, name) in entries {
                cookie = next;
                if remove && name.starts_with("file") {
                    guest.on_path("path_unlink_file", &format!("work/{name}")).await.unwrap();
                    let other = guest.open("work/aaa-new", CREATE, WRITE, 0).await.unwrap();
                    guest.close(other).await.unwrap();
                }
                seen.push(name);
            }
            if end {
                break;
            }
        }
        let listed: BTreeSet<&String> = seen.iter().collect();
        assert_eq!(listed.len(), seen.len(), "room {room}: a name came twice");
        assert_eq!(seen[..2], [".", ".."]);
        assert!(names.iter().all(|name| listed.contains(name)), "room {room}: a name is missing");
        guest.close(fd).await.unwrap();
    }
    let fd = guest.open("work", DIRECTORY, READ, 0).await.unwrap();
    assert_eq!(guest.list(fd, 2, 500).await.unwrap().0, [(3, "aaa-new".to_owned())]);
    assert_eq!(guest.list(fd, 0, 10).await.unwrap(), (vec![], false));
    assert_eq!(guest.list(fd, u64::MAX, 500).await.unwrap(), (vec![], true));
    let file = guest.open("work/aaa-new", 0, READ, 0).await.unwrap();
    assert_eq!(guest.list(file, 0, 500).await, Err(NOTDIR));
}

#[tokio::test]
async fn the_limit_is_exact() {
    let mut guest = Guest::new(config(base(), 10_000)).await;
    let fd = guest.open("work/file", CREATE, READ | WRITE, 0).await.unwrap();
    let room = 10_000 - 512;
    assert_eq!(guest.call("fd_filestat_set_size", &[fd.into(), room + 1]).await, Err(NOSPC));
    assert_eq!(guest.call("fd_filestat_set_size", &[fd.into(), u64::MAX]).await, Err(Errno::FBIG.0));
    assert_eq!(guest.call("fd_filestat_set_size", &[fd.into(), i64::MAX as u64]).await, Err(NOSPC));
    assert_eq!(guest.call("fd_allocate", &[fd.into(), u64::MAX, 2]).await, Err(Errno::FBIG.0));
    assert_eq!(guest.call("fd_allocate", &[fd.into(), 0, room + 1]).await, Err(NOSPC));
    assert_eq!(guest.pwrite(fd, room, b"x").await, Err(NOSPC));
    assert_eq!(guest.pwrite(fd, u64::MAX, b"x").await, Err(Errno::FBIG.0));
    assert_eq!(guest.store.data().tree.used, 512);
    assert_eq!(guest.pwrite(fd, room - 1, b"x").await, Ok(1));
    assert_eq!(guest.open("work/other", CREATE, WRITE, 0).await, Err(NOSPC));
    assert_eq!(guest.store.data().scratch_peak(), 10_000);
    assert_eq!(guest.call("fd_filestat_set_size", &[fd.into(), 0]).await, Ok(()));
    guest.open("work/other", CREATE, WRITE, 0).await.unwrap();
}

#[tokio::test]
async fn a_world_continues_in_the_middle_of_a_file() {
    let mut guest = guest().await;
    let fd = guest.open("tmp/file", CREATE, READ | WRITE, 0).await.unwrap();
    guest.write(fd, b"before").await.unwrap();
    guest.on_path("path_unlink_file", "tmp/file").await.unwrap();
    let directory = guest.open("work", DIRECTORY, READ, 0).await.unwrap();
    let state = postcard::to_stdvec(&guest.store.data().freeze()).unwrap();
    *guest.store.data_mut() = Wasi::thaw(postcard::from_bytes(&state).unwrap(), config(base(), 1 << 20)).unwrap();
    guest.write(fd, b" and after").await.unwrap();
    assert_eq!(guest.pread(fd, 0, 50).await.unwrap(), b"before and after");
    assert_eq!(guest.list(directory, 0, 500).await.unwrap().0.len(), 2);
}

#[tokio::test]
async fn addresses_outside_of_the_memory_are_refused() {
    let mut guest = guest().await;
    let fd = guest.open("work/file", CREATE, READ | WRITE, 0).await.unwrap();
    for at in [END, END - 1, u32::MAX, u32::MAX - 3] {
        let (fd, at, end) = (u64::from(fd), u64::from(at), u64::from(END));
        for (name, arguments) in [
            ("fd_write", vec![fd, at, 1, 0]),
            ("fd_read", vec![fd, at, 1, 0]),
            ("fd_read", vec![fd, BUFFER.into(), 0, at]),
            ("fd_readdir", vec![3, at, 8, 0, 0]),
            ("fd_filestat_get", vec![fd, at]),
            ("fd_fdstat_get", vec![fd, at]),
            ("fd_prestat_get", vec![3, at]),
            ("args_get", vec![at, BUFFER.into()]),
            ("args_get", vec![BUFFER.into(), at]),
            ("clock_time_get", vec![0, 0, at]),
            ("random_get", vec![at, 2]),
            ("poll_oneoff", vec![at, 0, 1, 0]),
            ("path_unlink_file", vec![3, at, 5]),
            ("path_unlink_file", vec![3, 5, end]),
        ] {
            let result = guest.call(name, &arguments).await;
            let too_long = name == "path_unlink_file" && result == Err(Errno::NAMETOOLONG.0);
            assert!(result == Err(FAULT) || too_long, "{name}: {result:?}");
        }
    }
    // A file is not made if its descriptor cannot be told.
    guest.set(BUFFER, b"work/new");
    let arguments = [3, 0, BUFFER.into(), 8, CREATE.into(), WRITE, 0, 0, u64::from(END)];
    assert_eq!(guest.call("path_open", &arguments).await, Err(FAULT));
    assert_eq!(guest.stat("work/new", true).await, Err(NOENT));
    assert_eq!(guest.open("work/\u{fffd}\0", 0, READ, 0).await, Err(Errno::ILSEQ.0));
}

#[tokio::test]
async fn what_a_c_library_asks_at_its_start() {
    let mut guest = guest().await;
    guest.call("args_sizes_get", &[0, 4]).await.unwrap();
    assert_eq!((guest.u32(0), guest.u32(4)), (2, 15));
    guest.call("args_get", &[0, BUFFER.into()]).await.unwrap();
    assert_eq!(guest.get(BUFFER, 15), b"main\0two words\0");
    assert_eq!((guest.u32(0), guest.u32(4)), (BUFFER, BUFFER + 5));
    guest.call("environ_get", &[0, BUFFER.into()]).await.unwrap();
    assert_eq!(guest.get(BUFFER, 11), b"HOME=/work\0");
    guest.call("fd_prestat_get", &[3, 0]).await.unwrap();
    assert_eq!((guest.u32(0), guest.u32(4)), (0, 1));
    guest.call("fd_prestat_dir_name", &[3, BUFFER.into(), 1]).await.unwrap();
    assert_eq!(guest.get(BUFFER, 1), b"/");
    assert_eq!(guest.call("fd_prestat_get", &[4, 0]).await, Err(BADF));
    guest.call("fd_fdstat_get", &[3, 0]).await.unwrap();
    assert_eq!(guest.get(0, 1), [3]);
    // No terminal: a character device has neither the right to seek nor to tell.
    for fd in 0..3 {
        guest.call("fd_fdstat_get", &[fd, 0]).await.unwrap();
        assert_eq!((guest.get(0, 1)[0], guest.u64(8) & (1 << 2 | 1 << 5)), (2, 1 << 2 | 1 << 5));
    }
    for clock in 0..4 {
        guest.call("clock_time_get", &[clock, 0, 0]).await.unwrap();
    }
    assert_eq!(guest.call("clock_time_get", &[4, 0, 0]).await, Err(INVAL));
    guest.call("random_get", &[BUFFER.into(), 32]).await.unwrap();
    let first = guest.get(BUFFER, 32);
    guest.call("random_get", &[BUFFER.into(), 32]).await.unwrap();
    assert_ne!(first, guest.get(BUFFER, 32));
    assert_eq!(guest.call("random_get", &[0, (1 << 20) + 1]).await, Err(INVAL));
    for name in ["sock_accept", "sock_recv", "sock_send", "sock_shutdown"] {
        let arguments = match name {
            "sock_recv" => vec![0; 6],
            "sock_send" => vec![0; 5],
            "sock_accept" => vec![0; 3],
            _ => vec![0; 2],
        };
        assert_eq!(guest.call(name, &arguments).await, Err(Errno::NOTSOCK.0), "{name}");
    }
    let exit = guest.try_call("exit", &[200]).await.unwrap_err();
    assert_eq!(exit.downcast_ref::<wasmtime_wasi::I32Exit>().map(|exit| exit.0), Some(200));
}

#[tokio::test]
async fn times_and_descriptors_are_what_was_set() {
    let mut guest = guest().await;
    let fd = guest.open("work/file", CREATE, READ | WRITE, 0).await.unwrap();
    guest.call("fd_filestat_set_times", &[fd.into(), 11, 22, 1 | 4]).await.unwrap();
    guest.call("fd_filestat_get", &[fd.into(), BUFFER.into()]).await.unwrap();
    assert_eq!((guest.u64(BUFFER + 40), guest.u64(BUFFER + 48)), (11, 22));
    guest.call("fd_filestat_set_times", &[fd.into(), 33, 44, 1]).await.unwrap();
    guest.call("fd_filestat_get", &[fd.into(), BUFFER.into()]).await.unwrap();
    assert_eq!((guest.u64(BUFFER + 40), guest.u64(BUFFER + 48)), (33, 22));
    assert_eq!(guest.call("fd_filestat_set_times", &[fd.into(), 0, 0, 1 | 2]).await, Err(INVAL));
    guest.call("fd_fdstat_set_flags", &[fd.into(), APPEND.into()]).await.unwrap();
    assert_eq!(guest.call("fd_fdstat_set_flags", &[fd.into(), 1 << 5]).await, Err(INVAL));
    guest.write(fd, b"end").await.unwrap();
    guest.seek(fd, 0, 0).await.unwrap();
    guest.write(fd, b"end").await.unwrap();
    assert_eq!(guest.pread(fd, 0, 10).await.unwrap(), b"endend");
    let other = guest.open("work/other", CREATE, WRITE, 0).await.unwrap();
    guest.call("fd_renumber", &[fd.into(), other.into()]).await.unwrap();
    assert_eq!(guest.pread(fd, 0, 10).await, Err(BADF));
    assert_eq!(guest.pread(other, 0, 10).await.unwrap(), b"endend");
    assert_eq!(guest.call("fd_renumber", &[other.into(), 99]).await, Err(BADF));
    assert_eq!(guest.pread(other, 0, 10).await.unwrap(), b"endend");
}
