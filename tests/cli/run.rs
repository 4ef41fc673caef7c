//! run: output, exit codes, interruption.

use crate::kit::{Folder, finish, finish_with_input, send_signal, wait};
use rustix::process::Signal;

#[test]
fn output_and_exit_code_are_the_guests_own() {
    let server = Folder::new(&["echo", "exit", "stderr_mix", "trap", "spin", "chatty"]).serve(&[]);
    let text = r#"{"text":"ünïcode and \"quotes\""}"#;
    let done = server.casemate(&["run", "echo", text]).expect(0);
    assert_eq!((done.stdout.trim_end(), done.stderr.as_str()), (text, ""));
    let done = finish_with_input(server.client(&["run", "echo", "-"]), r#"{"text":"from a pipe"}"#).expect(0);
    assert!(done.stdout.contains("from a pipe"));
    let done = server.casemate(&["run", "stderr_mix", r#"{"lines":2}"#]).expect(0);
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("out 0\nout 1\n", "err 0\nerr 1\n"));
    let done = server.casemate(&["run", "exit", r#"{"code":7}"#]).expect(7);
    assert_eq!(done.stdout, "bye\n");
    assert!(done.stderr.contains("failed: exit 7"), "{done:?}");
    let done = server.casemate(&["run", "trap"]).expect(134);
    assert!(done.stdout == "about to trap\n" && done.stderr.contains("trapped: unreachable"), "{done:?}");
    let done = server.casemate(&["run", "spin", "--timeout", "200ms"]).expect(124);
    assert!(done.stdout == "spinning\n" && done.stderr.contains("timed_out"), "{done:?}");
    let done = server.casemate(&["run", "chatty", r#"{"calls":2}"#]).expect(0);
    assert!(done.stderr.contains("[info] call "), "{done:?}");
}

#[test]
fn events_are_lines_of_json() {
    let server = Folder::new(&["echo"]).serve(&[]);
    let done = server.casemate(&["run", "echo", r#"{"text":"x"}"#, "--json", "--label", "a=b"]).expect(0);
    let events = done.json_lines();
    assert!(events[0]["started"]["executionId"].is_string(), "{events:?}");
    assert_eq!(events[1]["stdout"]["text"].as_str().unwrap().trim_end(), r#"{"text":"x"}"#);
    assert_eq!(events.last().unwrap()["finished"]["state"], "EXECUTION_STATE_SUCCEEDED");
    let sequences: Vec<u64> = events.iter().map(|event| event["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, (1..=events.len() as u64).collect::<Vec<_>>());
}

#[test]
fn a_call_that_cannot_run_is_told_with_every_violation() {
    let folder = Folder::new(&["echo"]);
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/tools/echo.toml");
    std::fs::copy(manifest, folder.path().join("tools/echo.toml")).unwrap();
    let server = folder.serve(&[]);
    let done = server.casemate(&["run", "echo", r#"{"text":1,"more":2}"#]).expect(125);
    assert!(done.stderr.contains("PARAMETERS_INVALID") && done.stderr.contains("call.parameters/text"), "{done:?}");
    let done = server.casemate(&["run", "nothing"]).expect(5);
    assert!(done.stderr.contains("TOOL_NOT_FOUND") && done.stderr.contains("casemate tools list"), "{done:?}");
    server.casemate(&["run", "echo", "--label", "nonsense"]).expect(2);
    server.casemate(&["run", "echo", "--request-id", "no-uuid"]).expect(125);
}

#[test]
fn the_same_request_id_runs_once() {
    let server = Folder::new(&["echo"]).serve(&[]);
    let run = ["run", "echo", r#"{"text":"once"}"#, "--request-id", "0199f3c2-7d1e-4c1b-9a52-1d1f6a3b8c77"];
    let first = server.casemate(&run).expect(0);
    assert_eq!(server.casemate(&run).expect(0).stdout, first.stdout);
    let list = server.casemate(&["executions", "list"]).expect(0).json();
    assert_eq!(list["executions"].as_array().unwrap().len(), 1);
}

#[test]
fn an_interrupted_run_is_cancelled_and_told() {
    let server = Folder::new(&["spin"]).serve(&[]);
    let (mut client, output) = server.start(&["run", "spin", "--timeout", "10m"]);
    output.until("spinning");
    send_signal(&client, Signal::INT);
    assert_eq!(wait(&mut client).code(), Some(130));
    let list = server.casemate(&["executions", "list"]).expect(0).json();
    assert_eq!(list["executions"][0]["state"], "EXECUTION_STATE_CANCELLED");
}

#[test]
fn whoever_stops_reading_is_not_shouted_at() {
    let server = Folder::new(&["ticker"]).serve(&[]);
    let command =
        format!("{} run ticker '{{\"count\":100000,\"interval_ms\":0}}' | head -n 1", env!("CARGO_BIN_EXE_casemate"));
    let mut shell = std::process::Command::new("/bin/sh");
    shell.args(["-c", &command]).current_dir(server.folder.path()).env("CASEMATE_ADDRESS", &server.address);
    let done = finish(shell).expect(0);
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("tick 0\n", ""));
}

#[test]
fn standard_input_is_given_to_the_program() {
    let server = Folder::new(&["stdin_cat"]).serve(&[]);
    std::fs::write(server.folder.path().join("in.txt"), "from a file").unwrap();
    let done = server.casemate(&["run", "stdin_cat", "--stdin", "in.txt"]).expect(0);
    assert_eq!(done.stdout, "{}\nfrom a file");
    let done = finish_with_input(server.client(&["run", "stdin_cat", "--stdin", "-"]), "from a pipe").expect(0);
    assert_eq!(done.stdout, "{}\nfrom a pipe");
    let done = server.casemate(&["run", "stdin_cat", "-", "--stdin", "-"]).expect(2);
    assert!(done.stderr.contains("exclude each other"), "{done:?}");
    let refused = ["run", "stdin_cat", "--file", "in.txt", "--arg", "-v", "--env", "A=1", "--return-file", "*.png"];
    let done = server.casemate(&refused).expect(125);
    assert!(done.stderr.contains("call.files: tools from WASM modules take no files"), "{done:?}");
    server.casemate(&["run", "stdin_cat", "--file", "missing.txt"]).expect(125);
    server.casemate(&["run", "stdin_cat", "--output-dir", "out"]).expect(0);
    let list = server.casemate(&["executions", "list", "--parent", "0199f3c2-7d1e-7c1b-9a52-1d1f6a3b8c77"]).expect(0);
    assert_eq!(list.json()["executions"].as_array().unwrap().len(), 0);
}
