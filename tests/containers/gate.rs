//! Processes that want out of their container.

use crate::kit::{BUSYBOX, House, PYTHON, ask, docker, image, sh, shell};
use casemate::proto::v1;

/// What every kind of program sees of the way out.
const CLIENTS: &str = r#"
import json, os, socket, urllib.request, urllib.error, http.client, http.server, threading

def fetch(address):
    try:
        return urllib.request.urlopen(address, timeout=20).read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Proxy-Status"], json.load(error)
    except OSError as error:
        return str(error)

print(fetch("http://api.example.com/v1?key=1"))
print(fetch("https://api.example.com/"))

# What listens in the container itself is none of the gate's affair.
class Own(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"own")
    def log_message(self, *a): pass
own = http.server.HTTPServer(("127.0.0.1", 8080), Own)
threading.Thread(target=own.serve_forever, daemon=True).start()
print(fetch("http://127.0.0.1:8080/"), fetch("http://localhost:8080/"))

def say(words):
    with socket.create_connection(("127.0.0.1", 3128), 20) as gate:
        gate.sendall(words)
        heard = b""
        while piece := gate.recv(65536):
            heard += piece
        return heard.split(b"\r\n")[0].decode()
print(say(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
print(say(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"))
print(say(b"GET http://x/ HTTP/1.1\r\nA: " + b"a" * 100_000 + b"\r\n\r\n"))

# Whoever holds connections holds up his own container alone; those that end make room.
held = [socket.create_connection(("127.0.0.1", 3128), 20) for _ in range(130)]
for gate in held: gate.close()
print(fetch("http://later.example/")[0])
"#;

#[tokio::test]
async fn a_program_that_wants_out_is_told_that_it_may_not() {
    if !docker() {
        return;
    }
    let mut house = House::open().await;
    let container = house.spawn(image(PYTHON, &["/bin/sleep", "1000"])).await.unwrap();
    let python =
        || v1::ProcessSpec { command: vec!["python3".into(), "-c".into(), CLIENTS.into()], ..Default::default() };
    let denied = "is denied: this server has no gate to the network', 'reason': 'not_available'})";
    let expected = format!(
        "(403, 'casemate; error=http_request_denied', {{'error': 'a connection to api.example.com {denied}\n\
         <urlopen error Tunnel connection failed: 403 Forbidden>\n\
         b'own' b'own'\n\
         HTTP/1.1 400 Bad Request\n\
         HTTP/1.1 400 Bad Request\n\
         HTTP/1.1 431 Request Header Fields Too Large\n\
         403\n"
    );
    let execution = house.start(&container.id, python()).await.unwrap();
    let ran = house.follow(&execution.id, 0).await;
    assert_eq!(ran.text(), expected, "{}", String::from_utf8_lossy(&ran.stderr));
    // Nor does it matter which server it is that answers.
    house.kill_and_restart().await;
    let execution = house.start(&container.id, python()).await.unwrap();
    assert_eq!(house.follow(&execution.id, 0).await.text(), expected);
}

#[tokio::test]
async fn programs_find_the_gate_by_the_usual_variables() {
    if !docker() {
        return;
    }
    let house = House::with("allow_direct = true").await;
    let proxies = "env | grep -i _proxy | sort";
    let expected = "ALL_PROXY=http://127.0.0.1:3128\n\
        HTTPS_PROXY=http://127.0.0.1:3128\n\
        HTTP_PROXY=http://127.0.0.1:3128\n\
        NO_PROXY=localhost,127.0.0.1,::1\n\
        all_proxy=http://127.0.0.1:3128\n\
        http_proxy=http://127.0.0.1:3128\n\
        https_proxy=http://127.0.0.1:3128\n\
        no_proxy=localhost,127.0.0.1,::1\n";
    // The main process is a process like others.
    let container = house.spawn(sh(&format!("{proxies}; sleep 1000"))).await.unwrap();
    house.until(&container.main_execution_id, expected).await;
    assert_eq!(house.run(&container.id, proxies).await.text(), expected);
    let wget = house.run(&container.id, "wget -q -O - http://example.com/ 2>&1").await;
    assert!(wget.text().contains("403 Forbidden"), "{wget:?}");
    let cleared = v1::ProcessSpec { clear_environment: true, ..shell(&format!("PATH=/bin:/usr/bin; {proxies}")) };
    let execution = house.start(
        &container.id,
        v1::ProcessSpec { command: ["/bin/sh", "-c", &cleared.command[2]].map(str::to_owned).into(), ..cleared },
    );
    assert_eq!(house.follow(&execution.await.unwrap().id, 0).await.text(), "");
    // An image that brings its own does not lead its programs astray.
    let id = ask(&["create", BUSYBOX, "/none"]);
    let own = "casemate-test/busybox-proxy:1";
    ask(&["commit", "--change", "ENV HTTPS_PROXY=http://elsewhere:1 ftp_proxy=http://elsewhere:1", id.trim(), own]);
    ask(&["rm", id.trim()]);
    let container = house.spawn(image(own, &["/bin/sleep", "1000"])).await.unwrap();
    assert_eq!(house.run(&container.id, proxies).await.text(), expected);
    // Who has a network of his own does without.
    let direct = v1::ContainerSpec { policy: v1::SandboxPolicy::ContainerDirect.into(), ..sh("sleep 1000") };
    let container = house.spawn(direct).await.unwrap();
    let found = house.run(&container.id, &format!("{proxies}; netstat -ltn | grep -c :3128")).await;
    assert_eq!(found.text(), "0\n");
    // And so does who has no supervisor to pass him on.
    let house = House::with("control = \"exec\"").await;
    let container = house.idle().await;
    assert_eq!(house.run(&container.id, proxies).await.text(), "");
}
