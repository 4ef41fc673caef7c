//! Files that are not what was written: the store's and the compiled modules'.

use crate::crowds::fill;
use crate::guests;
use crate::harness::{Server, Setup, call, reason, serve_command, text, wait_for};
use casemate::proto::v1;
use rustix::process::Signal;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tonic::Code;

/// A server's folder after an orderly end, with 60 executions recorded.
async fn folder_with_records() -> (TempDir, Vec<String>) {
    let mut server = Setup::new().config("[retention]\nmemory = \"0B\"").tool("cat", &guests::cat(), "").start().await;
    let mut ids = Vec::new();
    for number in 0..60 {
        let parameters = format!("{{\"n\": \"needle {number} {}\"}}", "hay".repeat(500));
        ids.push(server.run(call("cat", &parameters)).await.unwrap().execution.unwrap().id);
    }
    server.signal(Signal::TERM);
    assert!(server.ended().await.success());
    (server.kill(), ids)
}

fn database(folder: &Path) -> PathBuf {
    folder.join("data/casemate.db")
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

/// Starts a server that must not start, and answers what it says.
async fn refused(folder: &Path) -> String {
    let mut process = serve_command(folder).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let status = wait_for("the refusal", || process.try_wait().unwrap()).await;
    assert!(!status.success());
    let mut text = String::new();
    std::io::Read::read_to_string(&mut process.stderr.take().unwrap(), &mut text).unwrap();
    text
}

#[tokio::test]
async fn a_database_with_broken_pages_is_refused_with_what_to_do() {
    for fault in ["a header of zeros", "half of it", "pages of noise in the middle", "its first page twice"] {
        let (folder, _) = folder_with_records().await;
        change(&database(folder.path()), |bytes| {
            let (size, page) = (bytes.len(), 4096);
            assert!(size > 10 * page, "{size}");
            match fault {
                "a header of zeros" => bytes[..100].fill(0),
                "half of it" => bytes.truncate(size / 2 / page * page),
                "its first page twice" => bytes.copy_within(..page, page),
                _ => (2 * page..size - page).for_each(|at| bytes[at] = (at * 31 % 251) as u8),
            }
        });
        let before = std::fs::read(database(folder.path())).unwrap();
        let text = refused(folder.path()).await;
        assert!(text.contains("casemate.db") && text.contains("restore a copy"), "{fault}: {text}");
        // Nothing was mended behind the operator's back.
        assert_eq!(std::fs::read(database(folder.path())).unwrap(), before, "{fault}");
    }
}

#[tokio::test]
async fn a_record_with_a_changed_byte_is_never_shown() {
    let (folder, ids) = folder_with_records().await;
    // SQLite does not notice this one: the page holds together, the bytes are others.
    change(&database(folder.path()), |bytes| {
        let needle = b"needle 7 ";
        let places: Vec<usize> =
            bytes.windows(needle.len()).enumerate().filter(|(_, window)| window == needle).map(|(at, _)| at).collect();
        assert!(!places.is_empty());
        for place in places {
            bytes[place] ^= 1;
        }
    });
    let server = Server::start(folder).await;
    let mut executions = server.executions().await;
    for (number, id) in ids.iter().enumerate() {
        let watch = v1::WatchExecutionRequest { execution_id: id.clone(), ..Default::default() };
        let answer = executions.watch_execution(watch).await;
        if number == 7 {
            let status = answer.expect_err("a damaged journal is refused");
            assert_eq!((status.code(), reason(&status).as_str()), (Code::DataLoss, "STORE_DAMAGED"));
            assert!(status.message().contains("restore a copy"), "{}", status.message());
            continue;
        }
        let mut events = answer.unwrap().into_inner();
        let mut said = Vec::new();
        while let Some(message) = events.message().await.unwrap() {
            if let Some(v1::execution_event::Event::Stdout(chunk)) = message.event.unwrap().event {
                said.extend_from_slice(&chunk.data);
            }
        }
        assert!(String::from_utf8(said).unwrap().contains(&format!("needle {number} ")));
    }
    // New work goes on.
    assert_eq!(text(&server.run(call("cat", "{}")).await.unwrap()), "{}");
}

/// The check at the start has its time, and a disk may fail later: whoever reads broken pages meets them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_that_break_under_a_server_are_told_by_whoever_reads_them_and_never_left_out() {
    const RECORDS: usize = 20_000;
    let setup = Setup::new().config("[retention]\nmax_count = 1000000").tool("cat", &guests::cat(), "");
    let ids = fill(&setup.path().join("data"), RECORDS);
    let server = setup.start().await;
    // One page in 37, behind the first thousand records; none of them was read yet.
    let file = std::fs::OpenOptions::new().write(true).open(database(server.path())).unwrap();
    let pages = file.metadata().unwrap().len() / 4096;
    assert!(pages > 1200, "{pages}");
    for page in (pages / 4..pages * 3 / 4).step_by(37) {
        file.write_all_at(&[0xa5; 4096], page * 4096).unwrap();
    }
    let mut executions = server.executions().await;
    let expected: Vec<&String> = ids.iter().rev().collect();
    let (mut seen, mut page_token) = (0, String::new());
    let status = loop {
        let request = v1::ListExecutionsRequest { page_size: 1000, page_token, ..Default::default() };
        match executions.list_executions(request).await {
            Err(status) => break status,
            Ok(page) => {
                let page = page.into_inner();
                for execution in page.executions {
                    assert_eq!(&execution.id, expected[seen], "a record is left out in silence");
                    seen += 1;
                }
                assert!(!page.next_page_token.is_empty(), "the end, after {seen} records and no word of the damage");
                page_token = page.next_page_token;
            }
        }
    };
    eprintln!("met after {seen} of {RECORDS} records");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::DataLoss, "STORE_DAMAGED"), "{status:?}");
    assert!(status.message().contains("restore a copy"), "{}", status.message());
    // Single records are whole or refused, and new work goes on.
    let (mut whole, mut damaged) = (0, 0);
    for id in ids.iter().step_by(10) {
        let get = v1::GetExecutionRequest { execution_id: id.clone() };
        match executions.get_execution(get).await {
            Ok(found) => {
                assert_eq!(&found.into_inner().execution.unwrap().id, id);
                whole += 1;
            }
            Err(status) => {
                assert_eq!((status.code(), reason(&status).as_str()), (Code::DataLoss, "STORE_DAMAGED"), "{status:?}");
                damaged += 1;
            }
        }
    }
    eprintln!("one by one: {whole} whole, {damaged} refused");
    assert!(whole > 0 && damaged > 0);
    assert_eq!(text(&server.run(call("cat", "{}")).await.unwrap()), "{}");
}

#[tokio::test]
async fn a_log_of_noise_is_as_if_it_were_not_there() {
    let (folder, ids) = folder_with_records().await;
    let wal = folder.path().join("data/casemate.db-wal");
    std::fs::write(&wal, (0..200_000u32).map(|at| (at * 7 % 253) as u8).collect::<Vec<_>>()).unwrap();
    let server = Server::start(folder).await;
    let request = v1::ListExecutionsRequest { page_size: 100, ..Default::default() };
    let listed = server.executions().await.list_executions(request).await.unwrap().into_inner().executions;
    let mut found: Vec<String> = listed.into_iter().map(|execution| execution.id).collect();
    found.reverse();
    assert_eq!(found, ids);
}

#[tokio::test]
async fn compiled_code_with_a_flipped_bit_is_compiled_anew() {
    let server = Setup::new().tool("cat", &guests::cat(), "").tool("say", &guests::say("hi"), "").start().await;
    assert_eq!(text(&server.run(call("say", "{}")).await.unwrap()), "hi");
    let folder = server.kill();
    let entries = || -> Vec<PathBuf> {
        let cache = std::fs::read_dir(folder.path().join("data/modules")).unwrap();
        cache.map(|entry| entry.unwrap().path()).collect()
    };
    let before: Vec<(PathBuf, Vec<u8>)> =
        entries().into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    assert!(before.len() >= 2);
    for (number, (path, bytes)) in before.iter().enumerate() {
        // In the header, in the middle, at the end.
        let at = [3, bytes.len() / 2, bytes.len() - 1][number % 3];
        change(path, |bytes| bytes[at] ^= 1 << (number % 8));
    }
    let server = Server::start(folder).await;
    assert_eq!(text(&server.run(call("say", "{}")).await.unwrap()), "hi");
    assert_eq!(text(&server.run(call("cat", r#"{"a": 1}"#)).await.unwrap()), r#"{"a": 1}"#);
    for (path, _) in &before {
        assert!(path.exists(), "{} was not written again", path.display());
    }
    let log = std::fs::read_to_string(server.path().join("log")).unwrap();
    assert!(log.contains("compiled code is damaged"), "{log}");
}
