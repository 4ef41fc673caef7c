//! One bit in a file that a session, a snapshot or the interpreter itself starts from: refused, with the reason.

use crate::harness::{Setup, reason};
use crate::kit::{self, Python, code, out_of, within};
use casemate::proto::v1;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// All files below a directory, the largest first.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![directory.to_owned()];
    while let Some(next) = todo.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() { todo.push(entry.path()) } else { found.push(entry.path()) }
        }
    }
    found.sort_by_key(|path| std::cmp::Reverse(std::fs::metadata(path).unwrap().len()));
    found
}

fn flip(path: &Path, at: u64) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 4], at).unwrap();
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

#[tokio::test]
async fn a_bit_in_a_checkpoint_closes_the_session_and_no_other() {
    let Some(mut python) = kit::start().await else { return };
    let healthy = python.session().await;
    python.turn(&healthy, "n = 5").await.fine();
    python.durable(&healthy).await;
    for place in ["the first byte", "the header", "the middle", "the last byte", "cut by a byte"] {
        let session = python.session().await;
        python.turn(&session, "x = list(range(10_000))").await.fine();
        python.durable(&session).await;
        python.turn(&session, "y = list(range(10_000))").await.fine();
        python.durable(&session).await;
        let folder = python.server.kill();
        let checkpoint = files(&folder.path().join("data/sessions").join(&session)).remove(0);
        let size = length(&checkpoint);
        match place {
            "the first byte" => flip(&checkpoint, 0),
            "the header" => flip(&checkpoint, 40),
            "the middle" => flip(&checkpoint, size / 2),
            "the last byte" => flip(&checkpoint, size - 1),
            _ => std::fs::OpenOptions::new().write(true).open(&checkpoint).unwrap().set_len(size - 1).unwrap(),
        }
        python = Python::on(crate::harness::Server::start(folder).await).await;
        let refused = python.call(within(&session, code("print(x)"))).await.unwrap_err();
        let seen = python.look(&session).await;
        let closure = seen.closure.unwrap_or_else(|| panic!("{place}: {refused}"));
        assert_eq!(closure.reason(), v1::SessionClosureReason::CheckpointUnusable, "{place}: {closure:?}");
        assert_eq!(python.turn(&healthy, "print(n)").await.fine(), "5\n", "{place}");
        python.durable(&healthy).await;
    }
}

#[tokio::test]
async fn a_bit_in_a_snapshot_is_refused() {
    let Some(mut python) = kit::start().await else { return };
    let session = python.session().await;
    python.turn(&session, "x = 41").await.fine();
    let mut names = Vec::new();
    for place in ["header", "memory", "state"] {
        let freeze =
            v1::SnapshotSessionRequest { session_id: session.clone(), name: place.into(), ..Default::default() };
        let snapshot = python.sessions().snapshot_session(freeze).await.unwrap().into_inner().snapshot.unwrap();
        names.push((place, snapshot.id));
    }
    python.durable(&session).await;
    let folder = python.server.kill();
    let directory = folder.path().join("data/snapshots");
    for (place, id) in &names {
        let found = files(&directory).into_iter().filter(|path| path.to_string_lossy().contains(id.as_str()));
        let found: Vec<PathBuf> = found.collect();
        let named = |name: &str| found.iter().find(|path| path.ends_with(name)).unwrap_or_else(|| panic!("{found:?}"));
        match *place {
            "header" => flip(named("memory.image"), 30),
            "memory" => flip(named("memory.image"), length(named("memory.image")) / 2),
            _ => flip(named("state"), length(named("state")) / 2),
        }
    }
    python = Python::on(crate::harness::Server::start(folder).await).await;
    for (place, id) in &names {
        for name in [*place, id.as_str()] {
            let refused = python.call(out_of(name, code("print(x)"))).await.unwrap_err();
            assert_eq!(reason(&refused), "SNAPSHOT_UNUSABLE", "{place}: {refused}");
        }
        let request = v1::GetSnapshotRequest { snapshot_id: id.clone() };
        let seen = python.snapshots().get_snapshot(request).await.unwrap().into_inner().snapshot.unwrap();
        assert_eq!(seen.state(), v1::SnapshotState::Damaged, "{place}: {seen:?}");
    }
    assert_eq!(python.turn(&session, "print(x + 1)").await.fine(), "42\n");
}

/// A copy of the interpreters whose large files are links, but for the one that is to be damaged.
fn copied(name: &str) -> Option<(tempfile::TempDir, PathBuf)> {
    let installed = kit::installed()?.join("python");
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("python");
    std::fs::create_dir(&target).unwrap();
    let mut damaged = None;
    for path in files(&installed) {
        let place = target.join(path.strip_prefix(&installed).unwrap());
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        if path.file_name().unwrap().to_string_lossy().starts_with(name) {
            std::fs::copy(&path, &place).unwrap();
            damaged = Some(place);
        } else if std::fs::hard_link(&path, &place).is_err() {
            std::fs::copy(&path, &place).unwrap();
        }
    }
    Some((folder, damaged.unwrap_or_else(|| panic!("there is no {name}"))))
}

#[tokio::test]
async fn a_bit_in_the_interpreter_is_told_by_name() {
    // File, place of the bit, and words that the error must have.
    let cases = [
        ("builtin.image", 30, "builtin.image"),
        ("builtin.image", 100_000_000, "builtin.image is damaged"),
        ("code-", 30, ".cwasm"),
        ("code-", 100_000_000, ".cwasm"),
        ("installed.json", 100, "installed by another build"),
    ];
    for (name, at, words) in cases {
        let Some((interpreters, damaged)) = copied(name) else { return };
        flip(&damaged, at);
        let setup = Setup::new().config(&format!("[interpreters]\ndirectory = {:?}", interpreters.path()));
        let python = Python::on(setup.start().await).await;
        let refused = python.call(code("print(1)")).await.unwrap_err();
        assert_eq!(reason(&refused), "INTERPRETER_MISSING", "{name}: {refused}");
        assert!(refused.message().contains(words), "{name}: {refused}");
        assert!(refused.message().contains("casemate interpreters install"), "{name}: {refused}");
        let (status, health) = python.server.get("/health").await;
        assert_eq!(status, 200, "the rest of the server works: {health}");
        assert!(
            health.contains("\"python\":{\"detail\":\"") && !health.contains("\"python\":{\"detail\":\"wasi"),
            "{health}"
        );
    }
}
