//! Zip archives.

use std::fs;
use std::io::{Cursor, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use casemate_guest::protocol::{Answer, Conflict, Failure, Format, Limits, Request};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::channel::{bytes, names};
use crate::peer::Peer;

fn unpack(path: &Path, limits: Limits) -> Request {
    let (root, path, format) = (b"/".to_vec(), bytes(path), Some(Format::Zip));
    Request::Unpack { root, path, parents: true, format, conflict: Conflict::Fail, strip: 0, limits }
}

const PLENTY: Limits = Limits { entries: 1000, bytes: 1 << 30 };

pub fn archive(fill: impl FnOnce(&mut ZipWriter<Cursor<Vec<u8>>>, SimpleFileOptions)) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    fill(&mut writer, SimpleFileOptions::default().unix_permissions(0o640));
    writer.finish().unwrap().into_inner()
}

fn good(writer: &mut ZipWriter<Cursor<Vec<u8>>>, options: SimpleFileOptions) {
    writer.start_file("good", options).unwrap();
    writer.write_all(b"good").unwrap();
}

/// Replaces bytes with as many others, in each place.
fn changed(archive: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut archive = archive.to_vec();
    let places: Vec<_> = archive.windows(from.len()).enumerate().filter(|(_, part)| *part == from).collect();
    let places: Vec<_> = places.into_iter().map(|(at, _)| at).collect();
    assert!(!places.is_empty());
    places.into_iter().for_each(|at| archive[at..at + to.len()].copy_from_slice(to));
    archive
}

#[test]
fn zips_are_unpacked() {
    let (mut peer, folder) = (Peer::new(), tempfile::tempdir().unwrap());
    let to = folder.path().join("to");
    let large: Vec<u8> = (0..3_000_000u32).map(|at| (at / 7).wrapping_mul(at) as u8).collect();
    let bytes = archive(|writer, options| {
        writer.add_directory("a/empty", options).unwrap();
        writer.start_file("a/b/large", options).unwrap();
        writer.write_all(&large).unwrap();
        writer.start_file("stored", options.compression_method(CompressionMethod::Stored)).unwrap();
        writer.write_all(&large[..100_000]).unwrap();
        writer.start_file("nothing", options).unwrap();
        writer.add_symlink("link", "a/b/large", options).unwrap();
        writer.set_comment("PK\x05\x06 a comment that looks like the end of an archive").unwrap();
    });
    let answer = peer.ask_with(2, unpack(&to, PLENTY), &bytes).answer();
    assert_eq!(answer, Answer::Unpacked { files: 3, directories: 4, links: 1, bytes: 3_100_000, skipped: 0 });
    assert!(fs::read(to.join("a/b/large")).unwrap() == large && fs::read(to.join("link")).unwrap() == large);
    assert!(fs::read(to.join("stored")).unwrap() == large[..100_000]);
    assert_eq!(names(&to), ["a", "link", "nothing", "stored"]);
    assert_eq!(fs::metadata(to.join("stored")).unwrap().permissions().mode() & 0o7777, 0o640);
    let failure = peer.ask_with(2, unpack(&to, PLENTY), &bytes).failure();
    assert!(matches!(failure, Failure::InTheWay { .. }), "{failure:?}");
    let empty = folder.path().join("empty");
    peer.ask_with(2, unpack(&empty, PLENTY), &archive(|_, _| {})).answer();
    assert_eq!(names(&empty), Vec::<String>::new());
}

#[test]
fn hostile_zips_leave_nothing() {
    let (mut peer, folder) = (Peer::new(), tempfile::tempdir().unwrap());
    let to = folder.path().join("to");
    fs::create_dir(&to).unwrap();
    let file = |name: &str| {
        archive(|writer, options| {
            good(writer, options);
            writer.start_file(name, options).unwrap();
            writer.write_all(b"body").unwrap();
        })
    };
    let link = |target: &str| {
        archive(|writer, options| {
            good(writer, options);
            writer.add_symlink("link", target, options).unwrap();
        })
    };
    let plain = file("another");
    // The other half of the name says otherwise.
    let mut two_names = plain.clone();
    let at = two_names.windows(7).position(|part| part == b"another").unwrap();
    two_names[at] = b'A';
    let mut within = plain.clone();
    let at = within.windows(4).rposition(|part| part == b"PK\x01\x02").unwrap();
    within[at + 42..at + 46].copy_from_slice(&[0; 4]);
    let mut encrypted = plain.clone();
    encrypted[at + 8] |= 1;
    let mut sum = plain.clone();
    sum[at + 16] ^= 1;
    let mut size = plain.clone();
    size[at + 24] = 3;
    let mut longer = plain.clone();
    longer[at + 24] = 5;
    let mut device = plain.clone();
    device[at + 40..at + 42].copy_from_slice(&0o020_644u16.to_le_bytes());
    let mut method = plain.clone();
    method[at + 10] = 12;
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("above", changed(&file("xx/escaped"), b"xx/escaped", b"../escaped")),
        ("absolute", changed(&file("x/escaped-here"), b"x/escaped-here", b"/tmp/casemate-")),
        ("a zero byte", changed(&file("x/escaped"), b"x/escaped", b"x/esc\0ped")),
        ("twice", changed(&file("evil"), b"evil", b"good")),
        ("a link out", link("/etc")),
        ("a link above", link("../x")),
        (
            "through a link",
            archive(|writer, options| {
                writer.add_directory("d", options).unwrap();
                writer.add_symlink("link", "d", options).unwrap();
                writer.start_file("link/x", options).unwrap();
            }),
        ),
        ("two names", two_names),
        ("one within another", within),
        ("encrypted", encrypted),
        ("another sum", sum),
        ("less than it says", size),
        ("more than it says", longer),
        ("a device", device),
        ("an unknown method", method),
        ("something before it", [b"#!/bin/sh\n".to_vec(), plain.clone()].concat()),
        ("something behind it", [plain.clone(), b"x".to_vec()].concat()),
        ("nothing", Vec::new()),
    ];
    for (what, bytes) in cases {
        for to in [&to, &folder.path().join("new")] {
            let failure = peer.ask_with(2, unpack(to, PLENTY), &bytes).failure();
            assert!(matches!(failure, Failure::Archive(_)), "{what}: {failure:?}");
            assert_eq!(
                (names(folder.path()), names(&folder.path().join("to")).len()),
                (vec!["to".into()], 0),
                "{what}"
            );
        }
    }
    for end in 0..plain.len() {
        let failure = peer.ask_with(2, unpack(&to, PLENTY), &plain[..end]).failure();
        assert!(matches!(failure, Failure::Archive(_)), "{end}: {failure:?}");
    }
    // Any one byte changed: unpacked or refused, and nothing else.
    for at in 0..plain.len() {
        let mut bytes = plain.clone();
        bytes[at] ^= 1 << (at % 8);
        let to = folder.path().join("new");
        let result = peer.ask_with(2, unpack(&to, PLENTY), &bytes).result.unwrap();
        assert_eq!(to.exists(), result.is_ok(), "{at}: {result:?}");
        let _ = fs::remove_dir_all(to);
        assert_eq!(names(folder.path()), ["to"]);
    }
    for limits in [Limits { entries: 1, ..PLENTY }, Limits { bytes: 7, ..PLENTY }] {
        assert!(matches!(peer.ask_with(2, unpack(&to, limits), &plain).failure(), Failure::Archive(_)));
    }
    peer.ask_with(2, unpack(&to, Limits { entries: 2, bytes: 8 }), &plain).answer();
    assert_eq!(names(&to), ["another", "good"]);
}
