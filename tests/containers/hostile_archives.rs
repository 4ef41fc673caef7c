//! Archives that mean harm: each is refused by name, and nothing of it is written.

use crate::archive_kit::{entry, gz, head, into, message, tar, upload, zip};
use crate::harness::reason;
use crate::kit::{House, docker};
use casemate::proto::v1;
use std::io::Write;
use tonic::Code;
use v1::upload_archive_request::Part as UploadPart;

/// A record of pax about the next entry.
fn pax(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (rest..).find(|length| rest + length.to_string().len() == *length).unwrap();
    entry(b'x', "pax", "", &[format!("{length} {key}=").as_bytes(), value, b"\n"].concat())
}

/// An entry whose name does not fit.
fn named(kind: u8, name: &[u8]) -> Vec<u8> {
    [pax("path", name), entry(kind, "short", "", b"")].concat()
}

/// Changes as many bytes of an archive, wherever they are.
fn changed(mut archive: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let places: Vec<_> = (0..archive.len() - from.len()).filter(|at| archive[*at..].starts_with(from)).collect();
    places.into_iter().for_each(|at| archive[at..at + to.len()].copy_from_slice(to));
    archive
}

fn linked_zip(target: &str) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    writer.add_symlink("link", target, zip::write::SimpleFileOptions::default()).unwrap();
    writer.finish().unwrap().into_inner()
}

/// What is hostile, and what has to be in the message.
fn cases() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let good = || entry(b'0', "good", "", b"good");
    let with = |entries: &[Vec<u8>]| tar(&[&[good()], entries].concat());
    let truncated = gz(&with(&[entry(b'0', "more", "", &[7; 5000])]));
    let truncated = truncated[..truncated.len() - 9].to_vec();
    let mut sum = gz(&with(&[]));
    let at = sum.len() - 6;
    sum[at] ^= 1;
    vec![
        ("an absolute name", with(&[entry(b'0', "/tmp/escaped", "", b"x")]), "absolute: \"/tmp/escaped\""),
        ("a name above", with(&[entry(b'0', "../escaped", "", b"x")]), "leads out of it: \"../escaped\""),
        ("a name above, later", with(&[entry(b'0', "a/../../escaped", "", b"x")]), "leads out of it"),
        ("a name above, by pax", with(&[named(b'0', b"../escaped")]), "leads out of it: \"../escaped\""),
        (
            "zip-slip",
            changed(zip(&[("xx/escaped", b"x")]), b"xx/escaped", b"../escaped"),
            "leads out of it: \"../escaped\"",
        ),
        ("zip, absolute", changed(zip(&[("xtmp/escaped", b"x")]), b"xtmp/escaped", b"/tmp/escaped"), "absolute"),
        ("zip, a link out", linked_zip("/etc"), "leads out of the archive: \"link\""),
        ("zip, a name twice", changed(zip(&[("one", b"x"), ("two", b"x")]), b"two", b"one"), "is there twice: \"one\""),
        ("a link out", with(&[entry(b'2', "link", "/etc", b"")]), "leads out of the archive: \"link\""),
        ("a link above", with(&[entry(b'2', "a/link", "../../x", b"")]), "leads out of the archive: \"a/link\""),
        (
            "a link, then a file through it",
            with(&[entry(b'5', "d/", "", b""), entry(b'2', "link", "d", b""), entry(b'0', "link/x", "", b"x")]),
            "goes through what is no folder: \"link\"",
        ),
        (
            "a chain of links",
            with(&[
                entry(b'5', "p/q/", "", b""),
                entry(b'2', "p/q/l", "../..", b""),
                entry(b'2', "m", "p/q/l/..", b""),
            ]),
            "has a link that leads out of it: \"m\"",
        ),
        ("a hard link out", with(&[entry(b'1', "hard", "/etc/passwd", b"")]), "absolute: \"/etc/passwd\""),
        ("a hard link above", with(&[entry(b'1', "hard", "../etc/passwd", b"")]), "leads out of it: \"../etc/passwd\""),
        (
            "a hard link to a link",
            with(&[entry(b'2', "link", "good", b""), entry(b'1', "hard", "link", b"")]),
            "links to no file of the archive: \"hard\"",
        ),
        ("a character device", with(&[entry(b'3', "device", "", b"")]), "a device or a pipe: \"device\""),
        ("a block device", with(&[entry(b'4', "device", "", b"")]), "a device or a pipe: \"device\""),
        ("a FIFO", with(&[entry(b'6', "pipe", "", b"")]), "a device or a pipe: \"pipe\""),
        ("10 GB of holes", with(&[head(b'S', b"sparse", "", 10 << 30)]), "a file with holes: \"sparse\""),
        (
            "10 GB of holes, by pax",
            with(&[pax("GNU.sparse.realsize", b"10737418240"), entry(b'0', "sparse", "", b"x")]),
            "a file with holes",
        ),
        ("20 GB announced", with(&[head(b'0', b"vast", "", 20 << 30)]), "more than 17179869184 bytes"),
        ("a name of 4,200 bytes", with(&[named(b'0', &b"n/".repeat(2100))]), "too long: \"n/n/"),
        ("a part of 256 bytes", with(&[named(b'0', &[b'n'; 256])]), "too long: \"nnn"),
        ("200 directories below each other", with(&[named(b'5', &b"n/".repeat(200))]), "too long: \"n/n/"),
        ("a name of 100,000 bytes", with(&[named(b'0', &[b'n'; 100_000])]), "at most 65536"),
        ("a name with a zero", with(&[named(b'0', b"a\0b")]), "zero byte"),
        ("a name twice", with(&[good()]), "is there twice: \"good\""),
        ("a name twice, otherwise", with(&[entry(b'0', ".//good", "", b"x")]), "is there twice"),
        ("a file as a directory", with(&[entry(b'0', "good/x", "", b"x")]), "goes through what is no folder: \"good\""),
        ("a truncated gzip", truncated, "incomplete deflate stream"),
        ("a gzip with another sum", sum, "compressed in a way that cannot be read"),
        ("a gzip bomb", gz(&tar(&[entry(b'0', "zeros", "", &vec![0; 100 << 20])])), "more than 250 times as large"),
        ("a zip bomb", zip(&[("zeros", &vec![0; 100 << 20])]), "more than 250 times as large"),
        ("half a tar", with(&[entry(b'0', "more", "", &[7; 5000])])[..3000].to_vec(), "ends too early"),
        ("half a zip", zip(&[("a", &[7; 5000])])[..30].to_vec(), "no end"),
        ("no archive at all", b"#!/bin/sh\n".repeat(100), "broken, or is none"),
        ("nothing", Vec::new(), "ends too early"),
    ]
}

#[tokio::test]
async fn hostile_archives_are_refused_by_name_and_leave_nothing() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let id = house.idle().await.id;
    let seen = "find / -xdev -newer /tmp/.mark ! -path '/proc/*' ! -path /tmp/.mark; \
                find /workspace /tmp /run /dev/shm -mindepth 1 ! -path /tmp/.mark";
    house.run(&id, ": >/tmp/.mark").await;
    for (what, bytes, text) in cases() {
        for path in ["", "not/there"] {
            let header = v1::UploadArchiveHeader { make_parents: true, ..into(&id, path) };
            let error = upload(&house, header, bytes.clone()).await.expect_err(what);
            assert_eq!(
                (error.code(), &*reason(&error)),
                (Code::InvalidArgument, "ARCHIVE_INVALID"),
                "{what}: {error:?}"
            );
            assert!(error.message().contains(text), "{what}: {}", error.message());
        }
        let left = house.run(&id, "find /workspace /tmp /run /dev/shm -mindepth 1 ! -path /tmp/.mark").await.text();
        assert_eq!(left, "", "{what}");
    }
    let left = house.run(&id, seen).await.text();
    let left: Vec<_> = left.lines().filter(|path| !["/workspace", "/tmp", "/run"].contains(path)).collect();
    assert_eq!(left, Vec::<&str>::new());
    assert_eq!(house.run(&id, "head -c 5 /etc/passwd").await.text(), "root:");
}

#[tokio::test]
async fn names_that_are_no_text_are_names() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let id = house.idle().await.id;
    let bytes = tar(&[entry(b'0', b"\xff\xfe\n'\"$(x)", "", b"body"), named(b'0', &b"deep/".repeat(100))]);
    // The second ends with a slash, and so is a directory.
    let unpacked = upload(&house, into(&id, ""), bytes).await.unwrap();
    assert_eq!((unpacked.files, unpacked.directories), (1, 100));
    let told = house.run(&id, "cd /workspace; cat \"$(printf '\\377\\376\\n')\"*").await;
    assert_eq!(told.text(), "body");
}

#[tokio::test]
async fn one_entry_too_many_is_refused() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let id = house.idle().await.id;
    // A directory may come again, so that this needs no room; its time is another one each time, so that it is not
    // taken for a bomb.
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut block = head(b'5', b"d/", "", 0);
    for number in 0u32..=1_000_000 {
        let noise = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        block[265..281].copy_from_slice(format!("{noise:016x}").as_bytes());
        block[148..156].copy_from_slice(b"        ");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        encoder.write_all(&block).unwrap();
    }
    encoder.write_all(&[0; 1024]).unwrap();
    let bytes = encoder.finish().unwrap();
    let error = upload(&house, into(&id, ""), bytes).await.unwrap_err();
    assert_eq!((error.code(), &*reason(&error)), (Code::InvalidArgument, "ARCHIVE_INVALID"), "{error:?}");
    assert!(error.message().contains("more than 1000000 entries"), "{}", error.message());
    assert_eq!(house.run(&id, "find /workspace -mindepth 1").await.text(), "");
}

#[tokio::test]
async fn a_stream_that_is_no_upload_is_refused() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let id = house.idle().await.id;
    let header = || message(UploadPart::Header(into(&id, "")));
    for parts in [vec![], vec![message(UploadPart::Chunk(vec![1].into()))], vec![header(), header()]] {
        let error = house.containers().await.upload_archive(tokio_stream::iter(parts)).await.unwrap_err();
        assert_eq!((error.code(), &*reason(&error)), (Code::InvalidArgument, "INVALID_ARGUMENT"), "{error:?}");
    }
    let refused = [
        ("header.format", v1::UploadArchiveHeader { format: 9, ..into(&id, "") }),
        ("header.conflict", v1::UploadArchiveHeader { conflict: 9, ..into(&id, "") }),
        ("header.digest", v1::UploadArchiveHeader { digest: "xyz".into(), ..into(&id, "") }),
        ("header.request_id", v1::UploadArchiveHeader { request_id: "xyz".into(), ..into(&id, "") }),
        ("header.path", v1::UploadArchiveHeader { path: "a\0b".into(), ..into(&id, "") }),
        ("user", v1::UploadArchiveHeader { user: "0".into(), ..into(&id, "") }),
    ];
    for (field, header) in refused {
        let error = upload(&house, header, tar(&[])).await.unwrap_err();
        assert_eq!((error.code(), &*reason(&error)), (Code::InvalidArgument, "INVALID_ARGUMENT"), "{error:?}");
        assert!(error.message().contains(field), "{}", error.message());
    }
    for path in ["/etc", "/proc/sys", "/sys", "/.casemate"] {
        let error = upload(&house, into(&id, path), tar(&[entry(b'0', "f", "", b"")])).await.unwrap_err();
        assert_eq!((error.code(), &*reason(&error)), (Code::FailedPrecondition, "FILE_REFUSED"), "{path}: {error:?}");
    }
    // No room.
    let error = upload(&house, into(&id, ""), tar(&[entry(b'0', "f", "", &vec![7; 300 << 20])])).await.unwrap_err();
    assert_eq!((error.code(), &*reason(&error)), (Code::ResourceExhausted, "FILE_TOO_LARGE"), "{error:?}");
    assert_eq!(house.run(&id, "find /workspace -mindepth 1").await.text(), "");
}
