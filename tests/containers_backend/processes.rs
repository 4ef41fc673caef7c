//! Processes by Docker's own means.

use crate::kit::{Corner, eventually, on_docker};
use casemate::container::backend::BackendError;
use casemate::container::backend::ExecRequest;
use tokio::io::AsyncWriteExt;
use tokio_stream::StreamExt;

fn request(command: &str, terminal: Option<(u16, u16)>) -> ExecRequest {
    ExecRequest { command: ["/bin/sh", "-c", command].map(str::to_owned).to_vec(), terminal, ..ExecRequest::default() }
}

/// All output of a process, and how many pieces it came in.
async fn output(corner: &Corner, id: &str, request: &ExecRequest) -> (Vec<u8>, usize) {
    let mut stream = corner.docker.exec(id, request).await.unwrap();
    let (mut all, mut largest) = (Vec::new(), 0);
    while let Some(piece) = stream.output.next().await {
        let (_, data) = piece.unwrap();
        largest = largest.max(data.len());
        all.extend_from_slice(&data);
    }
    (all, largest)
}

#[test]
fn a_process_has_streams_an_environment_and_an_exit_code() {
    on_docker(|corner| async move {
        let id = corner.idle().await;
        let command = "echo out; echo err >&2; echo $A; pwd; id -u; exit 7".to_owned();
        let request = ExecRequest {
            command: vec!["/bin/sh".into(), "-c".into(), command],
            environment: vec!["A=b".into()],
            working_directory: "/tmp".into(),
            user: "1234".into(),
            terminal: None,
        };
        let (code, out, err) = corner.exec(&id, request).await;
        assert_eq!((code, out.as_str(), err.as_str()), (7, "out\nb\n/tmp\n1234\n", "err\n"));
    });
}

#[test]
fn input_ends_and_what_was_said_after_it_arrives() {
    on_docker(|corner| async move {
        let id = corner.idle().await;
        let mut stream = corner.docker.exec(&id, &request("cat; echo done", None)).await.unwrap();
        stream.input.write_all(&[b'x'; 200_000]).await.unwrap();
        stream.input.shutdown().await.unwrap();
        let mut got = Vec::new();
        while let Some(piece) = stream.output.next().await {
            got.extend_from_slice(&piece.unwrap().1);
        }
        assert_eq!(got.len(), 200_005);
        assert!(got.ends_with(b"xdone\n"));
    });
}

#[test]
fn a_terminal_says_what_the_process_says_however_it_looks() {
    on_docker(|corner| async move {
        let id = corner.idle().await;
        let tty = Some((80, 24));
        for hostile in [
            "\\001\\000\\000\\000\\177\\377\\377\\377abc",
            "\\000\\000\\000",
            "\\002\\000\\000\\000\\000\\000\\000\\001XY",
        ] {
            let command = format!("stty raw -echo; printf '{hostile}'; printf END");
            let (got, _) = output(&corner, &id, &request(&command, tty)).await;
            let plain = format!("printf '{hostile}'; printf END");
            let (expected, _) = output(&corner, &id, &request(&plain, None)).await;
            assert_eq!(got, expected, "{hostile}");
        }
        // Bounded, whatever its first bytes promise.
        let flood = "stty raw -echo; printf '\\001\\000\\000\\000\\177\\377\\377\\377'; yes | head -c 20000000";
        let (got, largest) = output(&corner, &id, &request(flood, tty)).await;
        assert_eq!(got.len(), 20_000_008);
        assert!(largest <= 32 << 10, "{largest}");
    });
}

#[test]
fn a_terminal_has_a_size_and_takes_another() {
    on_docker(|corner| async move {
        let id = corner.idle().await;
        let mut stream = corner.docker.exec(&id, &request("exec sh", Some((111, 33)))).await.unwrap();
        let mut said = String::new();
        for (size, line) in [((111, 33), "33 111"), ((50, 10), "10 50")] {
            corner.docker.exec_resize(&stream.id, size.0, size.1).await.unwrap();
            stream.input.write_all(b"stty size\n").await.unwrap();
            while !said.contains(line) {
                let (_, data) = stream.output.next().await.unwrap().unwrap();
                said.push_str(&String::from_utf8_lossy(&data));
            }
        }
        assert_eq!(corner.docker.exec_exit(&stream.id).await.unwrap(), None);
        stream.input.write_all(b"exit 3\n").await.unwrap();
        while stream.output.next().await.is_some() {}
        let code = eventually(|| async { corner.docker.exec_exit(&stream.id).await.unwrap() }).await;
        assert_eq!(code, 3);
        corner.docker.exec_resize(&stream.id, 80, 24).await.unwrap();
    });
}

#[test]
fn what_cannot_run_is_told_apart() {
    on_docker(|corner| async move {
        let id = corner.idle().await;
        let missing = ExecRequest { command: vec!["/missing".into()], ..ExecRequest::default() };
        match corner.docker.exec(&id, &missing).await {
            Err(error) => assert!(matches!(error, BackendError::Refused(_)), "{error:?}"),
            Ok(stream) => {
                let code = eventually(|| async { corner.docker.exec_exit(&stream.id).await.unwrap() }).await;
                assert!(matches!(code, 126 | 127), "{code}");
            }
        }
        use casemate::container::backend::Backend;
        corner.docker.kill(&id).await.unwrap();
        let error = corner.docker.exec(&id, &request("true", None)).await.err().unwrap();
        assert!(matches!(error, BackendError::Conflict(_)), "{error:?}");
        corner.docker.remove(&id).await.unwrap();
        let error = corner.docker.exec(&id, &request("true", None)).await.err().unwrap();
        assert!(matches!(error, BackendError::NotFound(_)), "{error:?}");
    });
}
