//! Archives in and out of containers: whole or not at all, and what is asked for with them.

use crate::archive_kit::{all, download, entry, from, gz, head, into, listed, message, tar, upload, zip};
use crate::files::{of, read};
use crate::harness::{PATIENCE, reason};
use crate::kit::{House, docker};
use casemate::proto::v1;
use sha2::{Digest, Sha256};
use std::io::Write;
use tonic::Code;
use v1::download_archive_response::Part as DownloadPart;
use v1::upload_archive_request::Part as UploadPart;

#[tokio::test]
async fn a_tree_goes_out_and_in_again_and_the_server_stays_small() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let id = house.idle().await.id;
    let long = "long".repeat(40);
    let made = house
        .run(
            &id,
            &format!(
                "mkdir -p /workspace/tree && cd /workspace/tree && mkdir -p src/deep empty open {long}/{long} && \
                 chmod 775 open && dd if=/dev/urandom of=large bs=1M count=100 2>/dev/null && \
                 printf x >src/deep/one && : >src/none && chmod 4711 src/deep/one && chmod 600 src/none && \
                 echo long >{long}/{long}/file && ln -s src/deep/one link && ln -s nowhere dangling && \
                 touch -d '2001-02-03 04:05:06' src/deep/one && printf a >\"$(printf 'not\\377text')\""
            ),
        )
        .await;
    assert_eq!(made.code(), 0, "{}", String::from_utf8_lossy(&made.stderr));
    // Bits that let a program run as somebody else do not come back.
    let tree = all(&house, &id, "/workspace/tree").await.replace("one 4711", "one 711");
    let (before, _) = house.memory();
    for format in [v1::ArchiveFormat::Tar, v1::ArchiveFormat::TarGz] {
        let request = v1::DownloadArchiveRequest {
            base_path: "/workspace/tree".into(),
            format: format.into(),
            ..from(&id, &["tree"])
        };
        // Without keeping it, as somebody does who has a file for it.
        let mut stream = house.containers().await.download_archive(request).await.unwrap().into_inner();
        let spool = tempfile::tempfile().unwrap();
        let mut summary = None;
        while let Some(message) = stream.message().await.unwrap() {
            match message.part.unwrap() {
                DownloadPart::Info(info) => {
                    assert_eq!((info.path.as_str(), info.kind()), ("/workspace/tree", v1::FileKind::Directory));
                }
                DownloadPart::Chunk(chunk) => (&spool).write_all(&chunk).unwrap(),
                DownloadPart::Summary(found) => summary = Some(found),
            }
        }
        let summary = summary.unwrap();
        assert_eq!((summary.entries, summary.content_bytes), (13, (100 << 20) + 1 + 5 + 1));
        assert_eq!(summary.omitted_paths, Vec::<String>::new());
        let digest = Some(summary.digest.clone());
        let header = v1::UploadArchiveHeader {
            make_parents: true,
            format: format.into(),
            digest: summary.digest,
            ..into(&id, "copies/one")
        };
        let bytes = std::fs::read(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&spool))).unwrap();
        let unpacked = upload(&house, header, bytes).await.unwrap();
        assert_eq!((unpacked.files, unpacked.directories, unpacked.links, unpacked.skipped), (5, 8, 2, 0));
        assert_eq!((unpacked.written_bytes, Some(unpacked.digest)), (summary.content_bytes, digest));
        assert_eq!(all(&house, &id, "/workspace/copies/one").await, tree);
        house.run(&id, "rm -r /workspace/copies").await;
    }
    let (_, most) = house.memory();
    assert!(most < before + (48 << 10), "{before} to {most} KiB");
}

#[tokio::test]
async fn each_form_is_taken_named_or_not() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let id = house.idle().await.id;
    let plain = tar(&[entry(b'5', "d/", "", b""), entry(b'0', "d/f", "", b"body")]);
    let forms = [
        (v1::ArchiveFormat::Tar, plain.clone()),
        (v1::ArchiveFormat::TarGz, gz(&plain)),
        (v1::ArchiveFormat::Zip, zip(&[("d/f", b"body")])),
    ];
    for (number, (format, bytes)) in forms.iter().enumerate() {
        for format in [*format, v1::ArchiveFormat::Unspecified] {
            let path = format!("/workspace/{number}-{}", format as i32);
            let header = v1::UploadArchiveHeader { format: format.into(), make_parents: true, ..into(&id, &path) };
            let unpacked = upload(&house, header, bytes.clone()).await.unwrap();
            assert_eq!((unpacked.files, unpacked.directories, unpacked.written_bytes), (1, 2, 4));
            assert_eq!(unpacked.digest, hex::encode(Sha256::digest(bytes)));
            assert_eq!(house.run(&id, &format!("cat {path}/d/f")).await.text(), "body");
        }
        let other = v1::ArchiveFormat::try_from((number as i32 + 1) % 3 + 1).unwrap();
        let header = v1::UploadArchiveHeader { format: other.into(), ..into(&id, "") };
        let error = upload(&house, header, bytes.clone()).await.unwrap_err();
        assert_eq!((error.code(), &*reason(&error)), (Code::InvalidArgument, "ARCHIVE_INVALID"), "{error:?}");
    }
}

#[tokio::test]
async fn what_is_there_gives_way_or_stays_as_asked() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let id = house.idle().await.id;
    house.run(&id, "cd /workspace; mkdir -p d/keep; echo old >d/f; ln -s /etc/passwd d/l; mkfifo p").await;
    let bytes = tar(&[
        entry(b'0', "d/f", "", b"new"),
        entry(b'0', "d/l", "", b"no link"),
        entry(b'0', "d/g", "", b"fresh"),
        entry(b'0', "p", "", b"no pipe"),
    ]);
    let with = |conflict: v1::ArchiveConflict| v1::UploadArchiveHeader { conflict: conflict.into(), ..into(&id, "") };
    let before = all(&house, &id, "/workspace").await;
    let error = upload(&house, with(v1::ArchiveConflict::Fail), bytes.clone()).await.unwrap_err();
    assert_eq!((error.code(), &*reason(&error)), (Code::AlreadyExists, "FILE_EXISTS"));
    assert!(error.message().starts_with("/workspace/d/f: "), "{}", error.message());
    // A directory never takes the place of a file, nor the other way round.
    for (name, kind, why) in [("d/f", b'5', "no directory"), ("d/keep", b'0', "is a directory")] {
        for conflict in [v1::ArchiveConflict::Replace, v1::ArchiveConflict::Skip, v1::ArchiveConflict::Fail] {
            let clash = tar(&[entry(b'0', "a", "", b"x"), entry(kind, name, "", b"")]);
            let error = upload(&house, with(conflict), clash).await.unwrap_err();
            assert_eq!((error.code(), &*reason(&error)), (Code::FailedPrecondition, "FILE_REFUSED"), "{error:?}");
            assert!(error.message().contains(name) && error.message().contains(why), "{}", error.message());
        }
    }
    assert_eq!(all(&house, &id, "/workspace").await, before);
    let skipped = upload(&house, with(v1::ArchiveConflict::Skip), bytes.clone()).await.unwrap();
    assert_eq!((skipped.files, skipped.skipped, skipped.written_bytes), (1, 3, 5));
    let told = house.run(&id, "cd /workspace; cat d/f d/g; readlink d/l; ls -ld p | cut -c1").await;
    assert_eq!(told.text(), "old\nfresh/etc/passwd\np\n");
    let replaced = upload(&house, with(v1::ArchiveConflict::Unspecified), bytes).await.unwrap();
    assert_eq!((replaced.files, replaced.skipped, replaced.directories), (4, 0, 0));
    let told = house.run(&id, "cd /workspace; cat d/f d/l d/g p; ls -A . d; head -c 4 /etc/passwd").await;
    assert_eq!(told.text(), "newno linkfreshno pipe.:\nd\np\n\nd:\nf\ng\nkeep\nl\nroot");
}

#[tokio::test]
async fn leading_elements_are_taken_off_and_directories_made() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let id = house.idle().await.id;
    let bytes = tar(&[
        entry(b'5', "pkg/", "", b""),
        entry(b'0', "pkg/src/a", "", b"a"),
        entry(b'1', "pkg/b", "pkg/src/a", b""),
        entry(b'0', "top", "", b"t"),
    ]);
    let header = v1::UploadArchiveHeader { strip_components: 1, ..into(&id, "x/y") };
    let error = upload(&house, header.clone(), bytes.clone()).await.unwrap_err();
    assert_eq!((error.code(), &*reason(&error)), (Code::NotFound, "FILE_NOT_FOUND"));
    let header = v1::UploadArchiveHeader { make_parents: true, ..header };
    let unpacked = upload(&house, header, bytes).await.unwrap();
    // x, x/y and src; the file and its other name; `pkg` and `top` have nothing left.
    assert_eq!((unpacked.directories, unpacked.files, unpacked.links, unpacked.skipped), (3, 1, 1, 2));
    assert_eq!(
        house.run(&id, "cd /workspace; find . | sort").await.text(),
        ".\n./x\n./x/y\n./x/y/b\n./x/y/src\n./x/y/src/a\n"
    );
}

#[tokio::test]
async fn what_was_announced_has_to_come() {
    if !docker() {
        return;
    }
    let mut house = House::open().await;
    let id = house.idle().await.id;
    let bytes = tar(&[entry(b'0', "f", "", &[7; 100_000])]);
    let size = bytes.len() as u64;
    let digest = hex::encode(Sha256::digest(&bytes));
    let other = hex::encode(Sha256::digest(b"other"));
    for (size_bytes, digest, field) in [
        (Some(size - 1), String::new(), "size_bytes"),
        (Some(size + 1), String::new(), "size_bytes"),
        (Some(size), other, "digest"),
    ] {
        let header = v1::UploadArchiveHeader { size_bytes, digest, ..into(&id, "") };
        let error = upload(&house, header, bytes.clone()).await.unwrap_err();
        assert_eq!((error.code(), &*reason(&error)), (Code::DataLoss, "FILE_MISMATCH"));
        assert!(error.message().contains(field), "{}", error.message());
        assert_eq!(house.run(&id, "find /workspace -mindepth 1").await.text(), "");
    }
    let header = v1::UploadArchiveHeader {
        size_bytes: Some(size),
        digest,
        conflict: v1::ArchiveConflict::Fail.into(),
        request_id: uuid::Uuid::now_v7().to_string(),
        ..into(&id, "")
    };
    let first = upload(&house, header.clone(), bytes.clone()).await.unwrap();
    assert_eq!(first.files, 1);
    // A retry does nothing twice, and finds nothing in its way.
    house.run(&id, "echo mine >/workspace/f").await;
    house.kill_and_restart().await;
    let again = upload(&house, header.clone(), bytes).await.unwrap();
    assert_eq!((again.digest, again.files), (first.digest, 0));
    assert_eq!(read(&house, of(&id, "f")).await.unwrap().1, b"mine\n");
    let error = upload(&house, header.clone(), vec![1]).await.unwrap_err();
    assert_eq!(&*reason(&error), "FILE_MISMATCH");
    let other = v1::UploadArchiveHeader { path: "/tmp".into(), ..header };
    assert_eq!(&*reason(&upload(&house, other, Vec::new()).await.unwrap_err()), "REQUEST_ID_REUSED");
}

#[tokio::test]
async fn an_upload_that_is_cut_off_leaves_nothing() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let id = house.idle().await.id;
    let (send, receive) = tokio::sync::mpsc::channel(4);
    let header = v1::UploadArchiveHeader { make_parents: true, ..into(&id, "a/b") };
    send.send(message(UploadPart::Header(header))).await.unwrap();
    let bytes = tar(&[entry(b'0', "f", "", &[7; 100_000])]);
    send.send(message(UploadPart::Chunk(bytes[..50_000].to_vec().into()))).await.unwrap();
    let mut client = house.containers().await;
    let stream = tokio_stream::wrappers::ReceiverStream::new(receive);
    let call = tokio::spawn(async move { client.upload_archive(stream).await });
    let deadline = std::time::Instant::now() + PATIENCE;
    // It has begun once its stage is there.
    while house.run(&id, "find /workspace -name f").await.text().is_empty() {
        assert!(std::time::Instant::now() < deadline && !call.is_finished());
    }
    assert_eq!(house.run(&id, "ls -d /workspace/a 2>/dev/null").await.text(), "", "nothing is seen before the end");
    call.abort();
    let _ = call.await;
    drop(send);
    let left = "find /workspace -mindepth 1";
    while !house.run(&id, left).await.text().is_empty() {
        assert!(std::time::Instant::now() < deadline, "{}", house.run(&id, left).await.text());
    }
}

#[tokio::test]
async fn downloads_keep_to_what_was_asked_for() {
    if !docker() {
        return;
    }
    let house = House::with("archive_entries = 100\narchive_bytes = \"1MiB\"\n").await;
    let id = house.idle().await.id;
    let made = "cd /workspace; mkdir -p d/e secret; echo one >d/e/one; echo two >two; ln -s two link; mkfifo pipe; \
                echo no >d/hidden; chmod 0 d/hidden; echo no >secret/x; chmod 0 secret";
    house.run(&id, made).await;
    // The whole workspace, and what could not be read.
    let found = download(&house, from(&id, &[])).await.unwrap();
    assert_eq!(found.info.unwrap().path, "/workspace");
    assert_eq!(listed(&found.bytes), ["d/", "d/e/", "d/e/one", "link", "two"]);
    assert_eq!((found.summary.entries, found.summary.content_bytes), (5, 8));
    assert_eq!(found.summary.omitted_paths, ["/workspace/d/hidden", "/workspace/pipe", "/workspace/secret"]);
    // One path: by its name. Several: below the workspace, and nothing twice.
    let found = download(&house, from(&id, &["d/./e/"])).await.unwrap();
    assert_eq!(
        (found.info.unwrap().kind(), listed(&found.bytes)),
        (v1::FileKind::Directory, vec!["e/".into(), "e/one".into()])
    );
    let found = download(&house, from(&id, &["link"])).await.unwrap();
    assert_eq!((found.info.unwrap().link_target, listed(&found.bytes)), ("two".into(), vec!["link".into()]));
    let found = download(&house, from(&id, &["two", "/workspace/d/e/one", "d/e"])).await.unwrap();
    assert!(found.info.is_none());
    assert_eq!(listed(&found.bytes), ["two", "d/e/", "d/e/one"]);
    let based = v1::DownloadArchiveRequest { base_path: "/".into(), ..from(&id, &["d/e/one"]) };
    assert_eq!(listed(&download(&house, based).await.unwrap().bytes), ["workspace/d/e/one"]);
    // A file alone is there even if it is made by the kernel; it has no size that holds.
    let found = download(&house, from(&id, &["/proc/version"])).await.unwrap();
    assert_eq!((found.summary.entries, found.summary.omitted_paths), (0, vec!["/proc/version".to_owned()]));
    let based = |base: &str, paths: &[&str]| v1::DownloadArchiveRequest { base_path: base.into(), ..from(&id, paths) };
    let formed = |format: i32| v1::DownloadArchiveRequest { format, ..from(&id, &[]) };
    for (request, code, why, text) in [
        (from(&id, &["none"]), Code::NotFound, "FILE_NOT_FOUND", "/workspace/none"),
        (from(&id, &["d", "none"]), Code::NotFound, "FILE_NOT_FOUND", "/workspace/none"),
        (from(&id, &["d", "/etc"]), Code::InvalidArgument, "INVALID_ARGUMENT", "paths[1]"),
        (based("d", &["d/e", "two"]), Code::InvalidArgument, "INVALID_ARGUMENT", "paths[1]"),
        (based("d", &[]), Code::InvalidArgument, "INVALID_ARGUMENT", "paths[0]"),
        (from(&id, &["d/../two"]), Code::InvalidArgument, "INVALID_ARGUMENT", "paths[0]"),
        (from(&id, &[""]), Code::InvalidArgument, "INVALID_ARGUMENT", "paths[0]"),
        (from(&id, &["x"; 1001]), Code::InvalidArgument, "INVALID_ARGUMENT", "paths"),
        (formed(v1::ArchiveFormat::Zip.into()), Code::InvalidArgument, "INVALID_ARGUMENT", "format"),
        (formed(77), Code::InvalidArgument, "INVALID_ARGUMENT", "format"),
    ] {
        let error = download(&house, request).await.map(|_| ()).unwrap_err();
        assert_eq!((error.code(), &*reason(&error)), (code, why), "{error:?}");
        assert!(error.message().contains(text), "{}", error.message());
    }
    // Bounds: the caller's, and the operator's.
    house.run(&id, "cd /workspace; head -c 600000 /dev/zero >a; head -c 600000 /dev/zero >b").await;
    let bounded = |max_bytes| v1::DownloadArchiveRequest { max_bytes, ..from(&id, &["a", "b"]) };
    for (max_bytes, field) in
        [(1000, "max_bytes"), (0, "containers.archive_bytes"), (1 << 40, "containers.archive_bytes")]
    {
        let error = download(&house, bounded(max_bytes)).await.map(|_| ()).unwrap_err();
        assert_eq!((error.code(), &*reason(&error)), (Code::ResourceExhausted, "FILE_TOO_LARGE"));
        assert!(error.message().contains(field), "{}", error.message());
    }
    house.run(&id, "cd /workspace; rm a b; mkdir many; cd many; for i in $(seq 120); do : >$i; done").await;
    let error = download(&house, from(&id, &["many"])).await.map(|_| ()).unwrap_err();
    assert!(error.message().contains("containers.archive_entries"), "{}", error.message());
    let many: Vec<_> = (0..101).map(|number| entry(b'0', format!("n{number}"), "", b"")).collect();
    let error = upload(&house, into(&id, ""), tar(&many)).await.unwrap_err();
    assert!(error.message().contains("more than 100 entries"), "{}", error.message());
    let error = upload(&house, into(&id, ""), tar(&[head(b'0', b"n", "", (1 << 20) + 1)])).await.unwrap_err();
    assert!(error.message().contains("more than 1048576 bytes"), "{}", error.message());
}
