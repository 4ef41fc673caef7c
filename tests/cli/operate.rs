//! init, serve, config, health.

use crate::kit::{Folder, finish, wait};
use rustix::process::Signal;
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

#[test]
fn init_writes_a_private_file_once() {
    let folder = Folder::new(&[]);
    let path = folder.path().join("casemate.toml");
    let first = std::fs::read_to_string(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let again = folder.casemate(&["init"]).expect(1);
    assert!(again.stderr.contains("error: casemate.toml was not written\n  why: it exists\nto do: "), "{again:?}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), first);
    let other = folder.casemate(&["init", "--path", "other.toml"]).expect(0);
    assert!(
        other.stdout.contains("casemate serve --config other.toml") && other.stdout.contains("Bearer"),
        "{other:?}"
    );
    let file: toml::Table = std::fs::read_to_string(folder.path().join("other.toml")).unwrap().parse().unwrap();
    let token = file["auth"]["token"].as_str().unwrap();
    assert!(token.len() >= 43 && !other.stdout.contains(token), "256 bits that are not shown");
    folder.casemate(&["init", "--force"]).expect(0);
    assert_ne!(std::fs::read_to_string(&path).unwrap(), first);
}

#[test]
fn config_shows_what_is_in_force_but_no_secret() {
    let folder = Folder::new(&[]);
    let mut command = folder.command(&["config"]);
    command.env("CASEMATE_EXECUTION__MAX_RUNNING", "7");
    let shown = finish(command).expect(0).stdout;
    assert!(shown.starts_with("# read from casemate.toml\n"), "{shown}");
    assert!(shown.contains("max_running = 7\n") && shown.contains("token = \"********\""), "{shown}");
    let json = folder.casemate(&["config", "--json", "--address", "127.0.0.1:4"]).expect(0).json();
    assert_eq!((&json["server"]["address"], &json["auth"]["token"]), (&json!("127.0.0.1:4"), &json!("********")));
}

#[test]
fn a_server_does_not_start_from_a_faulty_configuration() {
    let folder = Folder::new(&[]);
    let mut command = folder.command(&["serve", "--http-address", "nowhere"]);
    command.env("CASEMATE_LOG__COLOUR", "red");
    let refused = finish(command).expect(2).stderr;
    assert!(refused.starts_with("error: the configuration cannot be used\n  why: "), "{refused}");
    assert!(refused.contains("http.address (flag --http-address): found string \"nowhere\""), "{refused}");
    assert!(
        refused.contains("log.colour (environment variable CASEMATE_LOG__COLOUR): there is no such key"),
        "{refused}"
    );
    assert!(refused.contains("\nto do: "), "{refused}");
    std::fs::remove_file(folder.path().join("casemate.toml")).unwrap();
    let refused = folder.casemate(&["serve", "--address", "0.0.0.0:0"]).expect(2).stderr;
    assert!(refused.contains("without auth.token"), "{refused}");
    let refused = folder.casemate(&["serve", "--adress", "0.0.0.0:0"]).expect(2).stderr;
    assert!(refused.contains("--address"), "{refused}");
}

#[test]
fn a_server_tells_where_it_is_and_cleans_up() {
    let mut server = Folder::new(&[]).serve(&["--socket", "c.sock"]);
    assert_eq!(server.ready["socket"], json!("c.sock"));
    assert_eq!(server.ready["pid"], json!(server.process.id()));
    assert!(server.ready["http"].as_str().unwrap().starts_with("127.0.0.1:"));
    server.casemate(&["tools", "list", "--address", "unix:c.sock"]).expect(0);
    server.signal(Signal::TERM);
    assert_eq!(wait(&mut server.process).code(), Some(0));
    assert!(!server.path("ready.json").exists() && !server.path("c.sock").exists());
}

#[test]
fn a_port_that_is_taken_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let refused = Folder::new(&[]).casemate(&["serve", "--address", &address]).expect(1).stderr;
    assert!(refused.contains("error: the server could not start") && refused.contains(&address), "{refused}");
}

#[test]
fn a_probe_says_good_or_bad() {
    let mut server = Folder::new(&[]).serve(&[]);
    let mut probe = server.client(&["health"]);
    // No token: a probe needs none.
    probe.env("CASEMATE_CONFIG", "/dev/null").env("CASEMATE_TOKEN", "none");
    assert_eq!(finish(probe).expect(0).json()["status"], "serving");
    server.casemate(&["health", "--service", "casemate.v1.Tools"]).expect(0);
    server.casemate(&["health", "--service", "casemate.v1.Nonsense"]).expect(1);
    server.signal(Signal::TERM);
    wait(&mut server.process);
    server.casemate(&["health"]).expect(1);
    // Connects and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let begun = Instant::now();
    server.casemate(&["health", "--address", &address, "--timeout", "300ms"]).expect(1);
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn the_first_signal_drains_and_the_second_ends_at_once() {
    let folder = Folder::new(&["spin"]);
    let mut server = folder.serve(&[]);
    // Would drain for ten seconds, and then for the wall time of the run.
    server.casemate(&["run", "spin", "--detach", "--timeout", "10m"]).expect(0);
    let begun = Instant::now();
    server.signal(Signal::TERM);
    server.log.until("shutting down");
    server.signal(Signal::TERM);
    assert_eq!(wait(&mut server.process).code(), Some(143));
    assert!(begun.elapsed() < Duration::from_secs(8));
}

#[test]
fn clients_say_what_they_lack() {
    let server = Folder::new(&[]).serve(&[]);
    let mut stranger = server.client(&["tools", "list"]);
    stranger.env("CASEMATE_TOKEN", "wrong");
    let refused = finish(stranger).expect(4).stderr;
    assert!(refused.contains("UNAUTHENTICATED") && refused.contains("CASEMATE_TOKEN"), "{refused}");
    let nobody = server.casemate(&["tools", "list", "--address", "127.0.0.1:1"]).expect(3).stderr;
    assert!(nobody.contains("no connection to 127.0.0.1:1") && nobody.contains("casemate serve"), "{nobody}");
    server.casemate(&["tools", "list", "--address", "nonsense"]).expect(2);
}
