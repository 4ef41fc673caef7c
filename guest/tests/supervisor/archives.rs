//! Archives: of the guest's own making, of others', and hostile ones.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use casemate_guest::protocol::{Answer, Conflict, Failure, Format, Kind, Limits, Request};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::channel::{bytes, names};
use crate::peer::{Peer, until};

pub const PLENTY: Limits = Limits { entries: 100_000, bytes: 1 << 40 };

fn unpack(path: &Path, format: Format, limits: Limits) -> Request {
    let (root, path, format) = (b"/".to_vec(), bytes(path), Some(format));
    Request::Unpack { root, path, parents: true, format, conflict: Conflict::Fail, strip: 0, limits }
}

pub fn pack(root: &Path, paths: &[&str], limits: Limits) -> Request {
    Request::Pack { root: bytes(root), paths: paths.iter().map(|path| path.as_bytes().to_vec()).collect(), limits }
}

/// An entry of an archive, whatever it says.
pub fn entry(kind: u8, name: &str, target: &str, body: &[u8]) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len().min(100)].copy_from_slice(&name.as_bytes()[..name.len().min(100)]);
    block[100..107].copy_from_slice(b"0000644");
    block[124..135].copy_from_slice(format!("{:011o}", body.len()).as_bytes());
    block[136..147].copy_from_slice(b"00000000001");
    block[148..156].copy_from_slice(b"        ");
    block[156] = kind;
    block[157..157 + target.len()].copy_from_slice(target.as_bytes());
    block[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block.extend_from_slice(body);
    block.resize(block.len().next_multiple_of(512), 0);
    block
}

pub fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut all = entries.concat();
    all.resize(all.len() + 1024, 0);
    all
}

pub fn compressed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn tree(folder: &Path) {
    let long = "long".repeat(40);
    fs::create_dir_all(folder.join("a").join(&long).join(&long)).unwrap();
    fs::create_dir(folder.join("empty")).unwrap();
    fs::write(folder.join("a/empty"), "").unwrap();
    fs::write(folder.join("a/block"), [1; 512]).unwrap();
    fs::write(folder.join("a").join(&long).join(&long).join("file"), "deep").unwrap();
    fs::write(folder.join("large"), (0..1_000_003u32).map(|at| at as u8).collect::<Vec<_>>()).unwrap();
    fs::set_permissions(folder.join("large"), fs::Permissions::from_mode(0o750)).unwrap();
    symlink("a/block", folder.join("link")).unwrap();
    symlink(format!("a/{long}/{long}/file"), folder.join("long-link")).unwrap();
}

fn compare(one: &Path, other: &Path) {
    let compared = Command::new("diff").args(["-r", "--no-dereference"]).args([one, other]).output().unwrap();
    assert!(compared.status.success(), "{}", String::from_utf8_lossy(&compared.stdout));
    let (one, other) = (fs::metadata(one.join("large")).unwrap(), fs::metadata(other.join("large")).unwrap());
    assert_eq!((one.mode(), one.mtime()), (other.mode(), other.mtime()));
}

#[test]
fn what_is_packed_is_unpacked_by_anybody() {
    let (mut peer, folder) = (Peer::new(), tempfile::tempdir().unwrap());
    let from = folder.path().join("from");
    fs::create_dir(&from).unwrap();
    tree(&from);
    let _socket = std::os::unix::net::UnixListener::bind(from.join("socket")).unwrap();
    let said = peer.ask(2, pack(&from, &["/"], PLENTY));
    fs::remove_file(from.join("socket")).unwrap();
    assert!(matches!(peer.ask(4, pack(&from, &["/a/../a"], PLENTY)).failure(), Failure::Invalid(_)));
    assert_eq!(peer.ask(4, pack(&from, &["/none"], PLENTY)).failure(), Failure::NotFound);
    let packed = said.bytes.clone();
    let omitted = vec![b"socket".to_vec()];
    assert_eq!(said.answer(), Answer::Packed { entries: 10, bytes: 1_000_003 + 512 + 4, omitted });
    // By tar.
    let to = folder.path().join("tar");
    fs::create_dir(&to).unwrap();
    let mut tar = Command::new("tar").args(["-x", "-p", "-C"]).arg(&to).stdin(Stdio::piped()).spawn().unwrap();
    tar.stdin.take().unwrap().write_all(&packed).unwrap();
    assert!(tar.wait().unwrap().success());
    compare(&from, &to);
    // By the guest: where nothing is, and in a folder.
    let to = folder.path().join("guest");
    let expected = |directories| {
        let bytes = 1_000_003 + 512 + 4;
        Answer::Unpacked { files: 4, directories, links: 2, bytes, skipped: 0 }
    };
    assert_eq!(peer.ask_with(2, unpack(&to, Format::Tar, PLENTY), &packed).answer(), expected(5));
    compare(&from, &to);
    let to = folder.path().join("there");
    fs::create_dir(&to).unwrap();
    fs::write(to.join("other"), "").unwrap();
    assert_eq!(peer.ask_with(2, unpack(&to, Format::TarGz, PLENTY), &compressed(&packed)).answer(), expected(4));
    fs::remove_file(to.join("other")).unwrap();
    compare(&from, &to);
    // Nothing gives way, and then nothing is there.
    let in_the_way = |path: &str, kind| {
        let path = bytes(&to.join(path));
        Failure::InTheWay { path, wanted: kind, there: kind }
    };
    let failure = peer.ask_with(2, unpack(&to, Format::Tar, PLENTY), &packed).failure();
    assert_eq!(failure, in_the_way("a/block", Kind::File));
    fs::remove_dir_all(to.join("a")).unwrap();
    fs::remove_file(to.join("large")).unwrap();
    let failure = peer.ask_with(2, unpack(&to, Format::Tar, PLENTY), &packed).failure();
    assert_eq!(failure, in_the_way("link", Kind::Link));
    assert_eq!(names(&to), ["empty", "link", "long-link"]);
}

#[test]
fn what_tar_packs_is_unpacked() {
    let (mut peer, folder) = (Peer::new(), tempfile::tempdir().unwrap());
    let from = folder.path().join("from");
    fs::create_dir(&from).unwrap();
    tree(&from);
    fs::hard_link(from.join("large"), from.join("same")).unwrap();
    for format in ["gnu", "pax", "ustar", "v7"] {
        let mut tar = Command::new("tar");
        tar.args([&format!("--format={format}"), "-c", "-C"]).arg(&from);
        if matches!(format, "ustar" | "v7") {
            tar.args(["--exclude=long*", "--exclude=*/long*"]);
        }
        let packed = tar.arg(".").output().unwrap();
        assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
        let to = folder.path().join(format);
        // Concatenated members are one file.
        let (one, other) = packed.stdout.split_at(packed.stdout.len() / 3);
        let bytes = [compressed(one), compressed(other)].concat();
        peer.ask_with(2, unpack(&to, Format::TarGz, PLENTY), &bytes).answer();
        assert_eq!(fs::metadata(to.join("same")).unwrap().nlink(), 2);
        if matches!(format, "gnu" | "pax") {
            compare(&from, &to);
        }
    }
}

#[test]
fn hostile_archives_leave_nothing() {
    let (mut peer, folder) = (Peer::new(), tempfile::tempdir().unwrap());
    let to = folder.path().join("to");
    fs::create_dir(&to).unwrap();
    let good = entry(b'0', "good", "", b"good");
    let pax = |record: &str| entry(b'x', "pax", "", record.as_bytes());
    let mut broken = entry(b'0', "a", "", b"");
    broken[0] = b'b';
    let cases: Vec<(&str, Vec<Vec<u8>>)> = vec![
        ("absolute", vec![entry(b'0', "/tmp/casemate-escaped", "", b"x")]),
        ("above", vec![entry(b'0', "../escaped", "", b"x")]),
        ("above, later", vec![entry(b'0', "a/../../escaped", "", b"x")]),
        ("above by pax", vec![pax("19 path=../escaped\n"), entry(b'0', "a", "", b"x")]),
        ("above by GNU", vec![entry(b'L', "././@LongLink", "", b"../escaped\0"), entry(b'0', "a", "", b"x")]),
        ("a link out", vec![entry(b'2', "link", "/tmp", b"")]),
        ("a link above", vec![entry(b'2', "a/link", "../../x", b"")]),
        ("through a link", vec![entry(b'2', "link", "good", b""), entry(b'0', "link/escaped", "", b"x")]),
        (
            "through a link to a folder",
            vec![entry(b'5', "d/", "", b""), entry(b'2', "link", "d", b""), entry(b'0', "link/x", "", b"x")],
        ),
        (
            "links that lead out together",
            vec![entry(b'5', "p/q/", "", b""), entry(b'2', "p/q/l", "../..", b""), entry(b'2', "m", "p/q/l/..", b"")],
        ),
        ("over a link", vec![entry(b'2', "link", "good", b""), entry(b'0', "link", "", b"x")]),
        ("a link over a folder", vec![entry(b'5', "d", "", b""), entry(b'2', "d", "good", b"")]),
        ("a hard link out", vec![entry(b'1', "hard", "/etc/passwd", b"")]),
        ("a hard link above", vec![entry(b'1', "hard", "../../etc/passwd", b"")]),
        ("a hard link to nothing", vec![entry(b'1', "hard", "none", b"")]),
        ("a hard link to a link", vec![entry(b'2', "link", "good", b""), entry(b'1', "hard", "link", b"")]),
        ("a hard link to a folder", vec![entry(b'5', "d", "", b""), entry(b'1', "hard", "d", b"")]),
        ("a device", vec![entry(b'3', "device", "", b"")]),
        ("another device", vec![entry(b'4', "device", "", b"")]),
        ("a pipe", vec![entry(b'6', "pipe", "", b"")]),
        ("holes", vec![entry(b'S', "sparse", "", b"")]),
        ("holes by pax", vec![pax("22 GNU.sparse.major=1\n"), entry(b'0', "a", "", b"x")]),
        ("twice", vec![good.clone()]),
        ("twice, otherwise", vec![entry(b'0', "./good", "", b"x")]),
        ("a file as a folder", vec![entry(b'0', "good/x", "", b"x")]),
        ("an unknown kind", vec![entry(b'Z', "z", "", b"x")]),
        ("a link with bytes", vec![entry(b'2', "link", "good", b"x")]),
        ("a folder with bytes", vec![entry(b'5', "d", "", b"x")]),
        ("a broken header", vec![broken]),
        ("a name for all", vec![entry(b'g', "pax", "", b"10 path=a\n"), entry(b'0', "a", "", b"x")]),
        ("records that are cut", vec![pax("99 path=a\n"), entry(b'0', "a", "", b"x")]),
        ("records without an entry", vec![pax("10 path=a\n")]),
        ("no name", vec![entry(b'0', "./", "", b"x"), entry(b'0', ".", "", b"x")]),
        (
            "a name that is too long",
            vec![pax(&format!("265 path={}\n", "n".repeat(255 + 1))), entry(b'0', "a", "", b"")],
        ),
    ];
    for (what, entries) in &cases {
        let bytes = archive(&[vec![good.clone()], entries.clone()].concat());
        for (format, bytes) in [(Format::Tar, bytes.clone()), (Format::TarGz, compressed(&bytes))] {
            for to in [&to, &folder.path().join("new")] {
                let failure = peer.ask_with(2, unpack(to, format, PLENTY), &bytes).failure();
                assert!(matches!(failure, Failure::Archive(_)), "{what}: {failure:?}");
                assert_eq!(
                    (names(to.parent().unwrap()).len(), names(folder.path())),
                    (1, vec!["to".to_owned()]),
                    "{what}"
                );
                assert_eq!(names(&folder.path().join("to")), Vec::<String>::new(), "{what}");
            }
        }
    }
    // Cut anywhere, it is not whole.
    let whole = archive(&[good.clone(), entry(b'5', "d", "", b""), entry(b'0', "d/x", "", &[7; 700])]);
    let packed = compressed(&whole);
    for end in (0..whole.len() - 1024).step_by(100).chain([512, 1024, 1536]) {
        let failure = peer.ask_with(2, unpack(&to, Format::Tar, PLENTY), &whole[..end]).failure();
        assert!(matches!(failure, Failure::Archive(_)), "{end}: {failure:?}");
    }
    for end in 0..packed.len() {
        let failure = peer.ask_with(2, unpack(&to, Format::TarGz, PLENTY), &packed[..end]).failure();
        assert!(matches!(failure, Failure::Archive(_)), "{end}: {failure:?}");
    }
    let mut changed = packed.clone();
    let at = changed.len() - 6;
    changed[at] ^= 1;
    let failure = peer.ask_with(2, unpack(&to, Format::TarGz, PLENTY), &changed).failure();
    assert!(matches!(failure, Failure::Archive(_)), "{failure:?}");
    assert_eq!(names(&to), Vec::<String>::new());
    peer.ask_with(2, unpack(&to, Format::TarGz, PLENTY), &packed).answer();
    assert_eq!(names(&to), ["d", "good"]);
}

#[test]
fn archives_keep_to_their_limits() {
    let (mut peer, folder) = (Peer::new(), tempfile::tempdir().unwrap());
    let to = folder.path().join("to");
    let many: Vec<_> = (0..11).map(|number| entry(b'0', &number.to_string(), "", &[1; 10])).collect();
    let limits = |entries, bytes| Limits { entries, bytes };
    for limits in [limits(10, 1000), limits(100, 109)] {
        let failure = peer.ask_with(2, unpack(&to, Format::Tar, limits), &archive(&many)).failure();
        assert!(matches!(failure, Failure::Archive(_)), "{failure:?}");
    }
    // What is announced is enough.
    let mut vast = entry(b'0', "vast", "", b"");
    vast[124..136].copy_from_slice(b"77777777777\0");
    vast[148..156].copy_from_slice(b"        ");
    let sum: u64 = vast.iter().map(|byte| u64::from(*byte)).sum();
    vast[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    peer.open(2, unpack(&to, Format::Tar, limits(10, 1 << 30)));
    peer.data(2, &vast);
    assert!(matches!(peer.done(2).failure(), Failure::Archive(_)));
    // A bomb: zeros become little, and again so.
    let zeros = archive(&[entry(b'0', "zeros", "", &vec![0; 200 << 20])]);
    let bomb = compressed(&zeros);
    assert!(zeros.len() / bomb.len() < 250, "not by the first");
    let mut best = GzEncoder::new(Vec::new(), Compression::best());
    best.write_all(&zeros).unwrap();
    let bomb = best.finish().unwrap();
    let before = peer.memory();
    let failure = peer.ask_with(2, unpack(&to, Format::TarGz, PLENTY), &bomb).failure();
    assert!(matches!(failure, Failure::Archive(_)), "{failure:?}");
    assert!(peer.memory() < before + 2048);
    assert_eq!(names(folder.path()), Vec::<String>::new());
    peer.ask_with(2, unpack(&to, Format::Tar, limits(11, 110)), &archive(&many)).answer();
}

#[test]
fn an_archive_whose_server_vanishes_leaves_nothing() {
    let (mut peer, folder) = (Peer::new(), tempfile::tempdir().unwrap());
    let to = folder.path().join("to");
    fs::create_dir(&to).unwrap();
    let many: Vec<_> = (0..100).map(|number| entry(b'0', &format!("a/{number}"), "", &[1; 10])).collect();
    for round in 0..3 {
        peer.open(2, unpack(&to, Format::Tar, PLENTY));
        peer.data(2, &many.concat());
        until("it is being unpacked", || {
            let stage = names(&to).pop();
            stage.is_some_and(|stage| {
                let within = to.join(stage).join("a");
                within.exists() && names(&within).len() == 100
            })
        });
        match round {
            0 => {
                peer.give_up(2);
                assert_eq!(peer.done(2).failure(), Failure::Dropped);
                assert_eq!(names(&to), Vec::<String>::new());
            }
            1 => peer.reconnect(),
            _ => {
                peer.say(casemate_guest::protocol::ToGuest::Shutdown, b"");
                peer.guest.wait().unwrap();
                assert_eq!(names(&to), Vec::<String>::new());
            }
        }
        until("nothing is left", || names(&to).is_empty());
    }
}
