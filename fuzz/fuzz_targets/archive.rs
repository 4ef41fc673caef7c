//! Archives, unpacked by the supervisor itself into a folder on a real file system: all of it or nothing, and nothing
//! anywhere else. The first byte says how it is to be unpacked, the second in pieces of which size it arrives and whether
//! check sums are set right first.
#![no_main]

use bytes::{Bytes, BytesMut};
use casemate_guest::protocol::{
    Answer, Conflict, Failure, Format, FromGuest, Limits, Request, ToGuest, VERSION, encode,
};
use casemate_guest::protocol::{Decoder, Settings};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::LazyLock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

// It is a program and no library, so its files are taken as they are.
#[path = "../../guest/src/supervisor/mod.rs"]
#[allow(dead_code)]
mod supervisor;

mod sums;

const LIMITS: Limits = Limits { entries: 200, bytes: 1 << 20 };

/// Memory rather than a disk.
static BASE: LazyLock<PathBuf> = LazyLock::new(|| {
    let above = if Path::new("/dev/shm").is_dir() { PathBuf::from("/dev/shm") } else { std::env::temp_dir() };
    above.join(format!("casemate-fuzz-{}", std::process::id()))
});

fuzz_target!(|bytes: &[u8]| {
    let [how, pieces, archive @ ..] = bytes else { return };
    let mut archive = archive.to_vec();
    if pieces & 1 == 1 {
        sums::set_right(&mut archive);
    }
    let base = BASE.as_path();
    let _ = fs::remove_dir_all(base);
    furnish(base);
    let (before, outside) = (found(&base.join("target")), found(&base.join("beside")));

    let request = Request::Unpack {
        root: base.as_os_str().as_bytes().to_vec(),
        path: b"/target".to_vec(),
        parents: true,
        format: [None, Some(Format::Tar), Some(Format::TarGz), Some(Format::Zip)][usize::from(how & 3)],
        conflict: [Conflict::Replace, Conflict::Skip, Conflict::Fail, Conflict::Replace][usize::from(how >> 2 & 3)],
        strip: u32::from(how >> 4 & 3),
        limits: LIMITS,
    };
    let result = unpack(request, &archive, 1 + usize::from(*pieces) * 5);

    assert_eq!(found(&base.join("beside")), outside, "something was changed outside of the target");
    let names = fs::read_dir(base).expect("it is there").count();
    assert_eq!(names, 2, "something was left beside the target");
    let after = found(&base.join("target"));
    match result {
        Ok(Answer::Unpacked { files, directories, links, bytes, .. }) => {
            let new = after.iter().filter(|(path, what)| before.get(*path) != Some(what)).count() as u64;
            assert!(new <= files + directories + links, "{new} of {files}, {directories} and {links}");
            assert!(files + directories + links <= 40 * LIMITS.entries && bytes <= LIMITS.bytes);
            contained(base, &after, &before);
        }
        Ok(other) => panic!("it answers with {other:?}"),
        Err(Failure::Partly { why }) => panic!("nobody else is at work here, yet: {why}"),
        Err(failure) => assert_eq!(after, before, "half of it was left: {failure:?}"),
    }
    let _ = fs::remove_dir_all(base);
});

/// A target with something in it, a link out of it, and something beside it.
fn furnish(base: &Path) {
    for folder in ["target/a/b", "beside/a"] {
        fs::create_dir_all(base.join(folder)).expect("room in memory");
    }
    for file in ["target/f", "target/a/f", "beside/f", "beside/a/f"] {
        fs::write(base.join(file), file).expect("room in memory");
    }
    symlink("../beside", base.join("target/o")).expect("a link");
    symlink("a", base.join("target/l")).expect("a link");
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Folder,
    File(Vec<u8>, u64),
    Link(PathBuf),
}

/// All below a folder, by its path in it.
fn found(folder: &Path) -> BTreeMap<PathBuf, What> {
    let mut all = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).expect("a folder") {
            let path = entry.expect("an entry").path();
            let stat = fs::symlink_metadata(&path).expect("it is there");
            let what = if stat.is_symlink() {
                What::Link(fs::read_link(&path).expect("a link"))
            } else if stat.is_dir() {
                folders.push(path.clone());
                What::Folder
            } else {
                assert!(stat.is_file(), "{path:?} is something else");
                assert_eq!(stat.permissions().mode() & 0o7000, 0, "{path:?}");
                What::File(fs::read(&path).expect("a file"), stat.nlink())
            };
            all.insert(path.strip_prefix(folder).expect("below it").to_path_buf(), what);
        }
    }
    all
}

/// No link that is new leads out, but through the one that was there.
fn contained(base: &Path, after: &BTreeMap<PathBuf, What>, before: &BTreeMap<PathBuf, What>) {
    let target = base.join("target");
    let was_there = before.get(Path::new("o")) == after.get(Path::new("o"));
    if was_there {
        fs::remove_file(target.join("o")).expect("the link");
    }
    for (path, what) in after {
        if !matches!(what, What::Link(_)) || path == Path::new("o") && was_there {
            continue;
        }
        if let Ok(led) = target.join(path).canonicalize() {
            assert!(led.starts_with(&target), "{path:?} leads to {led:?}");
        }
    }
}

/// As the server asks for it, over a socket.
fn unpack(request: Request, archive: &[u8], size: usize) -> Result<Answer, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let table = Rc::new(supervisor::table::Table::default());
        let socket = BASE.with_extension("socket");
        let _ = fs::remove_file(&socket);
        let listener = tokio::net::UnixListener::bind(&socket).expect("a socket");
        let path = socket.clone();
        let guest = tokio::task::spawn_local(async move { supervisor::link::serve(table, &path, [0; 16]).await });
        let (mut stream, _) = listener.accept().await.expect("it connects");
        let mut words = BytesMut::new();
        let mut say = |message: ToGuest, payload: &[u8]| encode(&message, payload, &mut words).expect("it fits");
        say(ToGuest::Hello { version: VERSION, settings: Settings::default() }, &[]);
        say(ToGuest::Open { channel: 2, request: Box::new(request) }, &[]);
        // No more than may be sent without a grant.
        for piece in archive.chunks(size).take(WINDOW / size.max(1)) {
            say(ToGuest::Data { channel: 2 }, piece);
        }
        say(ToGuest::DataEnd { channel: 2 }, &[]);
        stream.write_all(&words).await.expect("it listens");
        let mut decoder = Decoder::default();
        let result = loop {
            let heard: Option<(FromGuest, Bytes)> = decoder.take().expect("it speaks the protocol");
            match heard {
                Some((FromGuest::Done { channel: 2, result }, _)) => break result,
                Some(_) => {}
                None => assert!(stream.read_buf(decoder.buffer()).await.expect("it is there") > 0, "it went away"),
            }
        };
        guest.abort();
        let _ = fs::remove_file(&socket);
        result
    })
}

const WINDOW: usize = casemate_guest::protocol::WINDOW as usize;
