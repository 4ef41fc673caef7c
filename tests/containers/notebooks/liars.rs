//! Programs that say they are kernels.

use super::*;
use crate::harness::{reason, result, text};
use crate::kit::docker;

/// A kernel's specification, put where users have theirs.
const LIAR: &str = r#"
import json, os, sys
home = '/workspace/.local/share/jupyter/kernels/' + sys.argv[1]
os.makedirs(home)
json.dump({'argv': ['python3', '-c', sys.argv[2], '{connection_file}'], 'display_name': 'l', 'language': 'l'},
          open(home + '/kernel.json', 'w'))
"#;

/// Greets as a kernel does, and then says this over and over.
const SAYS: &str = r#"
import json, socket, sys, threading
at = json.load(open(sys.argv[1]))
greeting = b'\xff' + bytes(8) + b'\x7f\x03\x00NULL' + bytes(48)
ready = b'\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03PUB'
def serve(port):
    listener = socket.create_server(('127.0.0.1', port))
    while True:
        peer, _ = listener.accept()
        try:
            peer.sendall(greeting + ready)
            while True:
                peer.sendall(WORDS)
        except OSError:
            pass
for name in ('shell_port', 'iopub_port', 'stdin_port', 'control_port'):
    threading.Thread(target=serve, args=(at[name],)).start()
"#;

#[tokio::test]
async fn a_kernel_that_lies_harms_nobody_else() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let container = house.spawn(jupyter()).await.unwrap();
    let install = async |name: &str, code: &str| {
        let command = ["python3", "-c", LIAR, name, code].map(str::to_owned).into();
        let execution = house.start(&container.id, v1::ProcessSpec { command, ..Default::default() }).await.unwrap();
        let ran = house.follow(&execution.id, 0).await;
        assert_eq!(ran.code(), 0, "{}", String::from_utf8_lossy(&ran.stderr));
    };
    let with = |kernel: &str| {
        let value = prost_types::Value { kind: Some(prost_types::value::Kind::StringValue(kernel.into())) };
        let parameters = prost_types::Struct { fields: [("kernel".to_owned(), value)].into() };
        v1::CreateSessionRequest { parameters: Some(parameters), ..in_container(&container.id) }
    };
    let says = |words: &str| SAYS.replace("WORDS", words);
    install("ends", "print('no', file=__import__('sys').stderr); raise SystemExit(4)").await;
    // A frame of more bytes than there are; one without end; unsigned words; HTTP.
    install("announces", &says(r"b'\x02' + b'\xff' * 8 + b'x' * 100")).await;
    install("floods", &says(r"b'\x02\x00\x00\x00\x00\x04\x00\x00\x00' + b'x' * 67108864")).await;
    install("unsigned", &says(r"b'\x01\x09<IDS|MSG>\x01\x00\x01\x02{}\x01\x02{}\x01\x02{}\x00\x02{}'")).await;
    let words = SAYS.replace("peer.sendall(greeting + ready)", "pass").replace("WORDS", "b'HTTP/1.1 200 OK\\r\\n' * 8");
    install("other", &words).await;

    let status = house.open_session(with("ends")).await.unwrap_err();
    assert!(status.message().contains("ended at once") && status.message().contains("no"), "{status:?}");
    let status = house.open_session(with("other")).await.unwrap_err();
    assert_eq!(reason(&status), "TOOL_BROKEN");
    assert!(status.message().contains("ZeroMQ"), "{status:?}");
    // Those that are never ready keep nobody else from his work.
    let (before, _) = house.memory();
    let honest = house.open_session(with("python3")).await.unwrap().id;
    let mut sessions = house.sessions().await;
    let lies = ["announces", "floods", "unsigned"].map(|name| {
        let (mut sessions, request) = (sessions.clone(), with(name));
        tokio::spawn(async move { sessions.create_session(request).await })
    });
    for number in 0..20 {
        let ran = house.cell(&honest, &format!("print({number})")).await;
        assert_eq!((text(&ran), result(&ran).exit_code), (format!("{number}\n"), 0));
    }
    let (after, _) = house.memory();
    assert!(after < before + (256 << 10), "{before} KiB, then {after}");
    for lie in lies {
        lie.abort();
    }
    let close = v1::CloseSessionRequest { session_id: honest, ..Default::default() };
    sessions.close_session(close).await.unwrap();
    // Whoever gave up waiting leaves no kernel behind.
    let deadline = Instant::now() + PATIENCE;
    while house.run(&container.id, "ps -o args | grep -c '[s]hell_port'").await.text() != "0\n" {
        assert!(Instant::now() < deadline);
    }
}
