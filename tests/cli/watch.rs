//! executions: list, get, watch, cancel; and watching through a connection that breaks.

use crate::kit::{Folder, PATIENCE, Server, spawn, wait};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

fn detached(server: &Server, tool: &str, extra: &[&str]) -> String {
    let run = [&["run", tool, "--detach", "--timeout", "10m"], extra].concat();
    server.casemate(&run).expect(0).stdout.trim_end().to_owned()
}

#[test]
fn executions_are_listed_shown_watched_and_cancelled() {
    let server = Folder::new(&["echo", "spin"]).serve(&[]);
    server.casemate(&["run", "echo", r#"{"text":"first"}"#, "--label", "job=7"]).expect(0);
    let id = detached(&server, "spin", &["--label", "job=8"]);
    let list = |filter: &[&str]| {
        let list = server.casemate(&[&["executions", "list"], filter].concat()).expect(0).json();
        list["executions"].as_array().unwrap().len()
    };
    assert_eq!(list(&[]), 2);
    assert_eq!(list(&["--limit", "1"]), 1);
    assert_eq!(list(&["--state", "running"]), 1);
    assert_eq!(list(&["--tool", "echo", "--since", "1h"]), 1);
    assert_eq!(list(&["--label", "job=8", "--limit", "0"]), 1);
    assert_eq!(list(&["--state", "failed", "--state", "lost"]), 0);
    let shown = server.casemate(&["executions", "get", &id]).expect(0).json();
    assert_eq!((&shown["state"], &shown["labels"]["job"]), (&"EXECUTION_STATE_RUNNING".into(), &"8".into()));
    let cancelled = server.casemate(&["executions", "cancel", &id, "--reason", "enough"]).expect(0).json();
    assert_eq!(cancelled["state"], "EXECUTION_STATE_CANCELLED");
    let watched = server.casemate(&["executions", "watch", &id]).expect(130);
    assert_eq!(watched.stdout, "spinning\n");
    let events = server.casemate(&["executions", "watch", &id, "--json", "--from", "2"]).expect(130).json_lines();
    assert_eq!(events[0]["sequence"], 2);
    server.casemate(&["executions", "get", "01a1fc91-0000-7000-8000-000000000000"]).expect(5);
    let beyond = server.casemate(&["executions", "watch", &id, "--from", "99"]).expect(125).stderr;
    assert!(beyond.contains("SEQUENCE_OUT_OF_RANGE"), "{beyond}");
}

#[test]
fn a_watcher_takes_up_a_broken_stream_where_it_left_off() {
    let server = Folder::new(&["spin"]).serve(&[]);
    let relay = Relay::to(&server.address);
    let id = detached(&server, "spin", &[]);
    let mut command = server.client(&["executions", "watch", &id]);
    command.env("CASEMATE_ADDRESS", &relay.address);
    let (mut watcher, output) = spawn(command);
    output.until("spinning");
    relay.next_connection().shutdown(Shutdown::Both).unwrap();
    // It is back, and so has said what it has seen.
    relay.next_connection();
    server.casemate(&["executions", "cancel", &id]).expect(0);
    assert_eq!(wait(&mut watcher).code(), Some(130));
    assert_eq!(output.rest(), [""; 0], "nothing is printed twice");
}

#[test]
fn a_run_goes_on_through_a_broken_connection() {
    let server = Folder::new(&["spin"]).serve(&[]);
    let relay = Relay::to(&server.address);
    let mut command = server.client(&["run", "spin", "--timeout", "10m"]);
    command.env("CASEMATE_ADDRESS", &relay.address);
    let (mut runner, output) = spawn(command);
    output.until("spinning");
    relay.next_connection().shutdown(Shutdown::Both).unwrap();
    relay.next_connection();
    let list = server.casemate(&["executions", "list", "--state", "running"]).expect(0).json();
    let id = list["executions"][0]["id"].as_str().unwrap().to_owned();
    server.casemate(&["executions", "cancel", &id]).expect(0);
    assert_eq!(wait(&mut runner).code(), Some(130));
    assert_eq!(output.rest(), [""; 0]);
}

#[test]
fn a_run_whose_server_was_killed_reads_as_lost() {
    let server = Folder::new(&["spin"]).serve(&[]);
    let id = "7f6f3c1e-52a5-4d2e-9c3b-0a1b2c3d4e5f";
    let (mut runner, output) = server.start(&["run", "spin", "--timeout", "10m", "--request-id", id]);
    output.until("spinning");
    let server = server.replace();
    assert_eq!(wait(&mut runner).code(), Some(70));
    assert_eq!(output.rest(), [""; 0]);
    let list = server.casemate(&["executions", "list"]).expect(0).json();
    assert_eq!(list["executions"][0]["state"], "EXECUTION_STATE_LOST");
}

/// Passes connections on to the server, and hands each to the test to break.
struct Relay {
    address: String,
    connections: Receiver<TcpStream>,
}

impl Relay {
    fn to(server: &str) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = server.to_owned();
        let (send, connections) = channel();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, upstream) = (client.unwrap(), TcpStream::connect(&server).unwrap());
                pump(client.try_clone().unwrap(), upstream.try_clone().unwrap());
                pump(upstream, client.try_clone().unwrap());
                if send.send(client).is_err() {
                    return;
                }
            }
        });
        Relay { address, connections }
    }

    fn next_connection(&self) -> TcpStream {
        self.connections.recv_timeout(PATIENCE).expect("a connection should come")
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        let mut buffer = [0; 16 << 10];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            if to.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        // The other direction may have closed it.
        let _ = to.shutdown(Shutdown::Both);
    });
}
