//! Files in containers: in and out, whole or not at all, and never beyond the container.

use crate::harness::reason;
use crate::kit::{House, docker};
use casemate::proto::v1;
use sha2::{Digest, Sha256};
use tonic::{Code, Status};
use v1::read_file_response::Part as ReadPart;
use v1::write_file_request::Part as WritePart;

pub fn header(container: &str, path: &str) -> v1::WriteFileHeader {
    v1::WriteFileHeader { container_id: container.into(), path: path.into(), ..Default::default() }
}

pub async fn write(
    house: &House,
    header: v1::WriteFileHeader,
    chunks: Vec<Vec<u8>>,
) -> Result<v1::WriteFileResponse, Status> {
    let head = v1::WriteFileRequest { part: Some(WritePart::Header(header)) };
    let parts = chunks.into_iter().map(|chunk| v1::WriteFileRequest { part: Some(WritePart::Chunk(chunk.into())) });
    let stream = tokio_stream::iter(std::iter::once(head).chain(parts).collect::<Vec<_>>());
    Ok(house.containers().await.write_file(stream).await?.into_inner())
}

pub async fn read(house: &House, request: v1::ReadFileRequest) -> Result<(v1::FileInfo, Vec<u8>), Status> {
    let mut stream = house.containers().await.read_file(request).await?.into_inner();
    let Some(ReadPart::Info(info)) = stream.message().await?.unwrap().part else { panic!("the file comes first") };
    let mut bytes = Vec::new();
    while let Some(message) = stream.message().await? {
        let Some(ReadPart::Chunk(chunk)) = message.part else { panic!("then its bytes") };
        bytes.extend_from_slice(&chunk);
    }
    Ok((info, bytes))
}

pub fn of(container: &str, path: &str) -> v1::ReadFileRequest {
    v1::ReadFileRequest { container_id: container.into(), path: path.into(), ..Default::default() }
}

async fn list(house: &House, request: v1::ListDirectoryRequest) -> Result<v1::ListDirectoryResponse, Status> {
    Ok(house.containers().await.list_directory(request).await?.into_inner())
}

fn paths(listing: &v1::ListDirectoryResponse) -> Vec<&str> {
    listing.entries.iter().map(|entry| entry.path.as_str()).collect()
}

#[tokio::test]
async fn what_is_written_is_read() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let id = house.idle().await.id;
    let written = write(&house, header(&id, "note.txt"), vec![b"hello ".to_vec(), b"world".to_vec()]).await.unwrap();
    let info = written.info.unwrap();
    assert_eq!((info.path.as_str(), info.size_bytes, info.mode, info.uid), ("/workspace/note.txt", 11, 0o644, 1000));
    assert_eq!((written.written_bytes, written.digest), (11, hex::encode(Sha256::digest("hello world"))));
    assert_eq!(house.run(&id, "cat /workspace/note.txt").await.text(), "hello world");
    let (info, bytes) = read(&house, of(&id, "/workspace/note.txt")).await.unwrap();
    assert_eq!((info.kind(), bytes.as_slice()), (v1::FileKind::File, &b"hello world"[..]));
    let part = v1::ReadFileRequest { offset: 6, length: 3, ..of(&id, "note.txt") };
    assert_eq!(read(&house, part).await.unwrap().1, b"wor");
    let beyond = v1::ReadFileRequest { offset: 12, ..of(&id, "note.txt") };
    assert_eq!(read(&house, beyond).await.unwrap_err().code(), Code::OutOfRange);
    // In each of the ways.
    let with = |mode: v1::FileWriteMode, offset| v1::WriteFileHeader {
        write_mode: mode.into(),
        offset,
        ..header(&id, "note.txt")
    };
    write(&house, with(v1::FileWriteMode::Append, 0), vec![b"!".to_vec()]).await.unwrap();
    write(&house, with(v1::FileWriteMode::AtOffset, 0), vec![b"J".to_vec()]).await.unwrap();
    assert_eq!(read(&house, of(&id, "note.txt")).await.unwrap().1, b"Jello world!");
    let error = write(&house, with(v1::FileWriteMode::Create, 0), vec![b"x".to_vec()]).await.unwrap_err();
    assert_eq!((error.code(), &*reason(&error)), (Code::AlreadyExists, "FILE_EXISTS"));
    house.run(&id, "chmod 750 /workspace/note.txt; ln -s note.txt /workspace/link").await;
    write(&house, header(&id, "link"), vec![b"through".to_vec()]).await.unwrap();
    let told = house.run(&id, "cd /workspace; cat note.txt; stat -c ' %a' note.txt; readlink link").await;
    assert_eq!(told.text(), "through 750\nnote.txt\n");
    let deep = v1::WriteFileHeader { make_parents: true, mode: Some(0o600), ..header(&id, "a/b/c") };
    let info = write(&house, deep, vec![]).await.unwrap().info.unwrap();
    assert_eq!((info.path.as_str(), info.size_bytes, info.mode), ("/workspace/a/b/c", 0, 0o600));
}

#[tokio::test]
async fn large_files_go_both_ways_and_the_server_stays_small() {
    if !docker() {
        return;
    }
    const SIZE: usize = 200 << 20;
    let house = House::open().await;
    let id = house.idle().await.id;
    let (before, _) = house.memory();
    let chunk: Vec<u8> = (0..1 << 20).map(|at: u32| (at % 251) as u8).collect();
    let written = write(&house, header(&id, "large"), vec![chunk.clone(); SIZE >> 20]).await.unwrap();
    assert_eq!(written.written_bytes, SIZE as u64);
    let (_, bytes) = read(&house, of(&id, "large")).await.unwrap();
    assert_eq!(hex::encode(Sha256::digest(&bytes)), written.digest);
    let (_, most) = house.memory();
    assert!(most < before + (48 << 10), "{before} to {most} KiB");
}

#[tokio::test]
async fn what_is_not_whole_is_not_seen() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let id = house.idle().await.id;
    write(&house, header(&id, "f"), vec![b"old".to_vec()]).await.unwrap();
    let short = v1::WriteFileHeader { size_bytes: Some(10), ..header(&id, "f") };
    let error = write(&house, short, vec![b"new".to_vec()]).await.unwrap_err();
    assert_eq!((error.code(), &*reason(&error)), (Code::DataLoss, "FILE_MISMATCH"));
    let other = v1::WriteFileHeader { digest: "0".repeat(64), ..header(&id, "f") };
    assert_eq!(write(&house, other, vec![b"new".to_vec()]).await.unwrap_err().code(), Code::DataLoss);
    // A caller that is cut off midway.
    let (send, receive) = tokio::sync::mpsc::channel(4);
    let head = v1::WriteFileRequest { part: Some(WritePart::Header(header(&id, "f"))) };
    let part = v1::WriteFileRequest { part: Some(WritePart::Chunk(vec![1; 1 << 20].into())) };
    send.send(head).await.unwrap();
    send.send(part).await.unwrap();
    let mut client = house.containers().await;
    let call =
        tokio::spawn(async move { client.write_file(tokio_stream::wrappers::ReceiverStream::new(receive)).await });
    // It has begun once its half is there.
    loop {
        if house.run(&id, "ls -a /workspace | wc -l").await.text() != "3\n" {
            break;
        }
    }
    call.abort();
    let _ = call.await;
    drop(send);
    let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
    while house.run(&id, "ls -a /workspace").await.text() != ".\n..\nf\n" {
        assert!(std::time::Instant::now() < deadline, "{}", house.run(&id, "ls -la /workspace").await.text());
    }
    assert_eq!(read(&house, of(&id, "f")).await.unwrap().1, b"old");
    // There is no room for it.
    let chunks = vec![vec![7; 1 << 20]; 300];
    let error = write(&house, header(&id, "huge"), chunks).await.unwrap_err();
    assert_eq!((error.code(), &*reason(&error)), (Code::ResourceExhausted, "FILE_TOO_LARGE"), "{error:?}");
    assert_eq!(house.run(&id, "ls -a /workspace").await.text(), ".\n..\nf\n");
}

#[tokio::test]
async fn directories_are_made_listed_moved_and_removed() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let id = house.idle().await.id;
    let mut client = house.containers().await;
    let make = |path: &str, parents| v1::MakeDirectoryRequest {
        container_id: id.clone(),
        path: path.into(),
        parents,
        ..Default::default()
    };
    assert_eq!(client.make_directory(make("a/b", false)).await.unwrap_err().code(), Code::NotFound);
    let made = client.make_directory(make("a/b", true)).await.unwrap().into_inner().info.unwrap();
    assert_eq!((made.path.as_str(), made.mode), ("/workspace/a/b", 0o755));
    assert_eq!(client.make_directory(make("a/b", false)).await.unwrap_err().code(), Code::AlreadyExists);
    house.run(&id, "cd /workspace/a; for i in $(seq 25); do echo $i >b/f$i; done; ln -s b to-b; mkfifo pipe").await;
    let request = v1::ListDirectoryRequest { container_id: id.clone(), path: "a".into(), ..Default::default() };
    let found = list(&house, request.clone()).await.unwrap();
    assert_eq!(paths(&found), ["/workspace/a/b", "/workspace/a/pipe", "/workspace/a/to-b"]);
    assert_eq!(found.entries[2].link_target, "b");
    // By pages, down to the second level.
    let mut all = Vec::new();
    let mut page = v1::ListDirectoryRequest { depth: 2, page_size: 7, ..request.clone() };
    loop {
        let found = list(&house, page.clone()).await.unwrap();
        all.extend(found.entries.into_iter().map(|entry| entry.path));
        if found.next_page_token.is_empty() {
            break;
        }
        page.page_token = found.next_page_token;
    }
    assert_eq!(all.len(), 28);
    assert!(all.is_sorted_by(|one, other| one.as_bytes() < other.as_bytes()), "{all:?}");
    let kinds = v1::ListDirectoryRequest { kinds: vec![v1::FileKind::Other.into()], ..request.clone() };
    assert_eq!(paths(&list(&house, kinds).await.unwrap()), ["/workspace/a/pipe"]);
    let other = v1::ListDirectoryRequest { page_token: page.page_token, ..request };
    assert_eq!(list(&house, other).await.unwrap_err().code(), Code::InvalidArgument);
    let moved = |from: &str, to: &str, replace| v1::MovePathRequest {
        container_id: id.clone(),
        source_path: from.into(),
        destination_path: to.into(),
        replace,
        ..Default::default()
    };
    assert_eq!(client.move_path(moved("a/b/f1", "a/b/f2", false)).await.unwrap_err().code(), Code::AlreadyExists);
    client.move_path(moved("a/b/f1", "a/b/f2", true)).await.unwrap();
    assert_eq!(house.run(&id, "cat /workspace/a/b/f2").await.text(), "1\n");
    assert_eq!(client.move_path(moved("a/b/f2", "/tmp/f", false)).await.unwrap_err().code(), Code::FailedPrecondition);
    let remove = |path: &str, recursive| v1::RemovePathRequest {
        container_id: id.clone(),
        path: path.into(),
        recursive,
        ..Default::default()
    };
    assert_eq!(client.remove_path(remove("a", false)).await.unwrap_err().code(), Code::FailedPrecondition);
    // a, b, 24 files, a link, a pipe.
    assert_eq!(client.remove_path(remove("a", true)).await.unwrap().into_inner().removed_entries, 28);
    let error = client.remove_path(remove("a", true)).await.unwrap_err();
    assert_eq!((error.code(), &*reason(&error)), (Code::NotFound, "FILE_NOT_FOUND"));
}

#[tokio::test]
async fn a_retry_with_a_request_id_does_nothing_twice() {
    if !docker() {
        return;
    }
    let mut house = House::open().await;
    let id = house.idle().await.id;
    let append = v1::WriteFileHeader {
        write_mode: v1::FileWriteMode::Append.into(),
        request_id: uuid::Uuid::now_v7().to_string(),
        ..header(&id, "log")
    };
    let first = write(&house, append.clone(), vec![b"line\n".to_vec()]).await.unwrap();
    let again = write(&house, append.clone(), vec![b"line\n".to_vec()]).await.unwrap();
    assert_eq!((first.digest, first.written_bytes), (again.digest, again.written_bytes));
    house.kill_and_restart().await;
    write(&house, append.clone(), vec![b"line\n".to_vec()]).await.unwrap();
    assert_eq!(house.run(&id, "cat /workspace/log").await.text(), "line\n");
    let other = v1::WriteFileHeader { path: "other".into(), ..append };
    assert_eq!(&*reason(&write(&house, other, vec![]).await.unwrap_err()), "REQUEST_ID_REUSED");
}

#[tokio::test]
async fn what_cannot_be_done_says_why() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let id = house.idle().await.id;
    house.run(&id, "cd /workspace; mkdir d; ln -s loop loop; mkfifo pipe; ln -s /proc/1/root out").await;
    for (path, code, why) in [
        ("", Code::InvalidArgument, "INVALID_ARGUMENT"),
        ("a\0b", Code::InvalidArgument, "INVALID_ARGUMENT"),
        ("none", Code::NotFound, "FILE_NOT_FOUND"),
        ("d", Code::FailedPrecondition, "FILE_REFUSED"),
        ("loop", Code::FailedPrecondition, "FILE_REFUSED"),
        ("pipe", Code::FailedPrecondition, "FILE_REFUSED"),
        ("/etc/passwd/x", Code::FailedPrecondition, "FILE_REFUSED"),
        ("/proc/1/mem", Code::FailedPrecondition, "FILE_REFUSED"),
        ("out/etc/passwd", Code::FailedPrecondition, "FILE_REFUSED"),
    ] {
        let error = read(&house, of(&id, path)).await.unwrap_err();
        assert_eq!((error.code(), &*reason(&error)), (code, why), "{path:?}: {error:?}");
    }
    for path in ["/etc/new", "/proc/sys/kernel/hostname", "/.casemate/guest", "/sys/x"] {
        let error = write(&house, header(&id, path), vec![b"x".to_vec()]).await.unwrap_err();
        assert_eq!((error.code(), &*reason(&error)), (Code::FailedPrecondition, "FILE_REFUSED"), "{path}: {error:?}");
    }
    let root = v1::ReadFileRequest { user: "0".into(), ..of(&id, "/etc/passwd") };
    assert_eq!(read(&house, root).await.unwrap_err().code(), Code::InvalidArgument);
    let error = read(&house, of("nobody", "x")).await.unwrap_err();
    assert_eq!(&*reason(&error), "CONTAINER_NOT_FOUND");
    house.kill(&id).await;
    assert_eq!(&*reason(&read(&house, of(&id, "x")).await.unwrap_err()), "CONTAINER_NOT_READY");
}
