//! containers: spawn, list, get, watch, stop, kill, pause, resume, stats, logs, images, pull.

use crate::house::{BUSYBOX, House, docker};
use crate::kit::{Lines, wait};
use std::process::Stdio;

#[test]
fn a_container_from_its_making_to_its_end() {
    if !docker() {
        return;
    }
    let house = House::open();
    let made = house.casemate(&[
        "containers",
        "spawn",
        BUSYBOX,
        "--name",
        "box",
        "--env",
        "A=1",
        "--label",
        "job=7",
        "--memory",
        "64MiB",
        "--cpus",
        "0.5",
        "--pids",
        "50",
        "--ttl",
        "1h",
        "--idle",
        "10m",
        "--tmpfs",
        "/scratch:1MiB",
        "--workdir",
        "/tmp",
        "--",
        "sleep",
        "100000",
    ]);
    let id = made.expect(0).stdout.trim_end().to_owned();
    let shown = house.get("box");
    assert_eq!((&shown["id"], &shown["state"]), (&id.as_str().into(), &"CONTAINER_STATE_RUNNING".into()));
    let spec = &shown["spec"];
    assert_eq!((&spec["labels"]["job"], &spec["workingDirectory"]), (&"7".into(), &"/tmp".into()));
    assert_eq!(spec["resources"]["memoryBytes"], 64 << 20);
    assert_eq!((&spec["resources"]["cpuMillis"], &spec["resources"]["pids"]), (&500.into(), &50.into()));
    assert_eq!((&spec["timeToLive"], &spec["idleTimeout"]), (&"3600s".into(), &"600s".into()));
    let list = |filter: &[&str]| {
        let list = house.casemate(&[&["containers", "list"], filter].concat()).expect(0).json();
        list["containers"].as_array().unwrap().len()
    };
    assert_eq!(list(&["--label", "job=7", "--state", "running"]), 1);
    assert_eq!(list(&["--label", "job=8"]), 0);
    assert_eq!(list(&["--image", "docker.io/casemate-test/busybox:1"]), 1);
    let taken = house.casemate(&["containers", "spawn", BUSYBOX, "--name", "box"]).expect(1).stderr;
    assert!(taken.contains("CONTAINER_EXISTS"), "{taken}");
    let frozen = house.casemate(&["containers", "pause", "box"]).expect(0).json();
    assert_eq!(frozen["containers"][0]["state"], "CONTAINER_STATE_PAUSED");
    let refused = house.casemate(&["exec", "box", "true"]).expect(125).stderr;
    assert!(refused.contains("CONTAINER_NOT_READY") && refused.contains("paused"), "{refused}");
    house.casemate(&["containers", "resume", &id]).expect(0);
    let stopped =
        house.casemate(&["containers", "stop", "box", "--grace", "0s", "--reason", "enough"]).expect(0).json();
    assert_eq!(stopped["containers"][0]["state"], "CONTAINER_STATE_ENDED");
    assert_eq!(stopped["containers"][0]["end"]["reason"], "CONTAINER_END_REASON_STOPPED");
    assert_eq!((list(&[]), list(&["--all"])), (0, 1));
    let gone = house.casemate(&["containers", "get", "nobody"]).expect(5).stderr;
    assert!(gone.contains("CONTAINER_NOT_FOUND") && gone.contains("casemate containers list --all"), "{gone}");
}

#[test]
fn what_is_not_allowed_is_for_the_operator() {
    if !docker() {
        return;
    }
    let house =
        House::with("[containers.templates.small]\nimage = \"casemate-test/busybox:1\"\ncommand = [\"sleep\", \"9\"]");
    let refused = house.casemate(&["containers", "spawn", "library/debian:12"]).expect(4).stderr;
    assert!(refused.contains("POLICY_DENIED") && refused.contains("[containers] in the server's"), "{refused}");
    let refused = house.casemate(&["containers", "spawn", BUSYBOX, "--cap-add", "CAP_SYS_ADMIN"]).expect(4).stderr;
    assert!(refused.contains("POLICY_DENIED"), "{refused}");
    house.casemate(&["containers", "spawn", BUSYBOX, "--writable-root"]).expect(4);
    house.casemate(&["containers", "spawn", BUSYBOX, "--policy", "container_direct"]).expect(4);
    house.casemate(&["containers", "spawn", BUSYBOX, "--mount", "/etc:/etc:rw"]).expect(4);
    house.casemate(&["containers", "spawn", BUSYBOX, "--mount", "/etc"]).expect(2);
    house.casemate(&["containers", "spawn"]).expect(2);
    let unknown = house.casemate(&["containers", "spawn", "--template", "none"]);
    assert!(matches!(unknown.code, 1 | 5) && unknown.stderr.contains("small"), "{unknown:?}");
    let request = "0199f3c2-7d1e-4c1b-9a52-1d1f6a3b8c77";
    let spawn = ["containers", "spawn", "--template", "small", "--request-id", request, "--json"];
    let first = house.casemate(&spawn).expect(0).json();
    assert_eq!((&first["spec"]["template"], &first["requestId"]), (&"small".into(), &request.into()));
    assert_eq!(house.casemate(&spawn).expect(0).json()["id"], first["id"], "a retry makes no second one");
}

#[test]
fn logs_go_where_they_went() {
    if !docker() {
        return;
    }
    let house = House::open();
    let script =
        "echo one; echo two; echo wrong >&2; echo three; until [ -e stop ]; do sleep 0.01; done; echo last; exit 3";
    let id = house.spawn("talk", script);
    house.until("all is written", |house| house.casemate(&["containers", "logs", "talk"]).stdout.ends_with("three\n"));
    let logs = |more: &[&str]| house.casemate(&[&["containers", "logs", &id], more].concat()).expect(0);
    let all = logs(&[]);
    assert_eq!((all.stdout.as_str(), all.stderr.as_str()), ("one\ntwo\nthree\n", "wrong\n"));
    let one = logs(&["--stderr"]);
    assert_eq!((one.stdout.as_str(), one.stderr.as_str()), ("", "wrong\n"));
    assert_eq!(logs(&["--stdout", "--tail", "2"]).stdout, "two\nthree\n");
    assert_eq!(logs(&["--tail", "0"]).stdout, "");
    assert_eq!(logs(&["--until", "1h"]).stdout, "");
    assert_eq!(logs(&["--since", "1h"]).stdout, "one\ntwo\nthree\n");
    let stamped = logs(&["--timestamps", "--stdout", "--tail", "1"]).stdout;
    assert!(stamped.starts_with("20") && stamped.ends_with("Z three\n"), "{stamped:?}");
    let (mut follower, lines) = house.server().start(&["containers", "logs", "-f", "--tail", "1", "--stdout", "talk"]);
    lines.until("three");
    house.casemate(&["exec", "talk", "touch", "stop"]).expect(0);
    assert_eq!(wait(&mut follower).code(), Some(0));
    assert_eq!(lines.rest(), ["last"]);
    let entries = logs(&["--json", "-f"]).json_lines();
    assert_eq!(entries[0]["chunk"]["text"].as_str().unwrap().chars().next(), Some('o'));
    let end = &entries.last().unwrap()["end"];
    assert_eq!((&end["reason"], &end["exitCode"]), (&"CONTAINER_END_REASON_EXITED".into(), &3.into()));
    logs(&["--json"]);
    house.casemate(&["containers", "logs", &id, "--json", "-t"]).expect(2);
    house.casemate(&["containers", "logs", "nobody"]).expect(5);
}

#[test]
fn a_follower_loses_and_repeats_no_byte_when_the_server_is_killed() {
    if !docker() {
        return;
    }
    let mut house = House::open();
    house.spawn("count", "i=0; until [ -e stop ]; do echo $i; i=$((i+1)); usleep 1000; done; echo end $i");
    let (mut follower, lines) = house.server().start(&["containers", "logs", "-f", "count"]);
    let mut next = 0;
    let mut read = |until: &dyn Fn(u64) -> bool| loop {
        assert_eq!(lines.until(""), next.to_string());
        next += 1;
        if until(next) {
            return next;
        }
    };
    let mut seen = read(&|next| next == 100);
    for _ in 0..2 {
        house.replace_server();
        seen = read(&|next| next == seen + 200);
    }
    house.until("its container is back", |house| house.casemate(&["exec", "count", "touch", "stop"]).code == 0);
    assert_eq!(wait(&mut follower).code(), Some(0));
    let mut rest = lines.rest();
    let last = rest.pop().unwrap();
    let expected: Vec<String> = (seen..seen + rest.len() as u64).map(|number| number.to_string()).collect();
    assert_eq!(rest, expected);
    assert_eq!(last, format!("end {}", seen + rest.len() as u64));
}

#[test]
fn a_kill_shows_what_was_said() {
    if !docker() {
        return;
    }
    let house = House::open();
    house.spawn("doomed", "echo to be; echo or not >&2; sleep 100000");
    house.until("it has spoken", |house| house.casemate(&["containers", "logs", "doomed"]).stderr == "or not\n");
    let killed = house.casemate(&["containers", "kill", "doomed", "--reason", "a test"]).expect(0).json();
    let killed = &killed["containers"][0];
    assert_eq!(killed["container"]["end"]["reason"], "CONTAINER_END_REASON_KILLED");
    assert_eq!((&killed["stdout"]["text"], &killed["stderr"]["text"]), (&"to be\n".into(), &"or not\n".into()));
}

#[test]
fn figures_come_once_or_until_the_end() {
    if !docker() {
        return;
    }
    let house = House::open();
    let id = house.idle("busy");
    let once = house.casemate(&["containers", "stats", "busy", "--once"]).expect(0).json_lines();
    assert_eq!(once.len(), 1);
    assert!(once[0]["memoryBytes"].as_u64().unwrap() > 0 && once[0]["pids"].as_u64().unwrap() > 0, "{once:?}");
    let (mut stats, lines) = house.server().start(&["containers", "stats", "busy", "--interval", "100ms"]);
    for _ in 0..3 {
        lines.until("cpuUsage");
    }
    house.casemate(&["containers", "kill", "busy"]).expect(0);
    assert_eq!(wait(&mut stats).code(), Some(0));
    house.casemate(&["containers", "stats", &id]).expect(1);
}

#[test]
fn a_watch_tells_each_change_also_of_a_new_server() {
    if !docker() {
        return;
    }
    let mut house = House::open();
    let (mut all, lines) = house.server().start(&["containers", "watch", "--label", "seen=yes"]);
    lines.until("synced");
    let id = house.casemate(&[
        "containers",
        "spawn",
        BUSYBOX,
        "--label",
        "seen=yes",
        "--name",
        "star",
        "--",
        "sleep",
        "9999",
    ]);
    let id = id.expect(0).stdout.trim_end().to_owned();
    house.idle("extra");
    lines.until("CONTAINER_STATE_RUNNING");
    let (mut one, lines_of_one) = house.server().start(&["containers", "watch", "star"]);
    lines_of_one.until(&id);
    house.replace_server();
    house.until("it is back", |house| house.casemate(&["exec", "star", "true"]).code == 0);
    house.casemate(&["containers", "kill", "star"]).expect(0);
    lines.until("CONTAINER_END_REASON_KILLED");
    assert_eq!(wait(&mut one).code(), Some(0), "the watch of one ends with it");
    let last = lines_of_one.rest().pop().unwrap();
    assert!(last.contains("CONTAINER_STATE_ENDED") && !last.contains("extra"), "{last}");
    all.kill().unwrap();
    wait(&mut all);
}

#[test]
fn images_are_listed_and_a_pull_that_cannot_be_is_told() {
    if !docker() {
        return;
    }
    let house = House::open();
    let images = house.casemate(&["containers", "images"]).expect(0).json();
    let of = |image: &serde_json::Value| image["references"][0].as_str().unwrap_or_default().to_owned();
    let names: Vec<String> = images["images"].as_array().unwrap().iter().map(of).collect();
    assert!(names.iter().any(|name| name == "docker.io/casemate-test/busybox:1"), "{names:?}");
    let some = ["containers", "images", "--repository", "docker.io/casemate-test/python"];
    assert_eq!(house.casemate(&some).expect(0).json()["images"].as_array().unwrap().len(), 1);
    let refused = house.casemate(&["containers", "pull", "library/debian:12"]).expect(4).stderr;
    assert!(refused.contains("POLICY_DENIED"), "{refused}");
    house.casemate(&["containers", "pull", "NOT A REFERENCE"]).expect(1);
    let mut pull = house.server().client(&["containers", "pull", "casemate-test/nothing:1"]);
    let mut pull = pull.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    // Without a way to the registry it is out of reach; with one, it has no such image.
    let told = Lines::of(pull.stderr.take().unwrap());
    assert!(matches!(wait(&mut pull).code(), Some(3 | 5)));
    told.until("error: image \"casemate-test/nothing:1\" was not fetched");
}

#[test]
fn a_container_is_frozen_and_another_starts_from_there() {
    if !docker() {
        return;
    }
    let house = House::open();
    house.casemate(&["containers", "spawn", BUSYBOX, "--name", "box", "--", "sleep", "100000"]).expect(0);
    house.casemate(&["exec", "box", "sh", "-c", "echo kept > file"]).expect(0);
    let freeze = ["containers", "snapshot", "box", "gold", "--description", "a file", "--label", "job=7"];
    let made = house.casemate(&freeze).expect(0).json();
    assert_eq!((&made["kind"], &made["labels"]["job"]), (&"SNAPSHOT_KIND_CONTAINER".into(), &"7".into()));
    let taken = house.casemate(&freeze[..4]).expect(1).stderr;
    assert!(taken.contains("SNAPSHOT_EXISTS"), "{taken}");
    house.casemate(&["containers", "spawn", "--snapshot", "gold", "--name", "two", "--", "sleep", "100000"]).expect(0);
    assert_eq!(house.casemate(&["exec", "two", "cat", "file"]).expect(0).stdout, "kept\n");
    let list = |kind: &str| house.casemate(&["snapshots", "list", "--kind", kind]).expect(0).json();
    assert_eq!(list("container")["snapshots"][0]["name"], "gold");
    let interpreters = list("interpreter");
    assert!(interpreters["snapshots"].as_array().unwrap().iter().all(|one| one["name"] != "gold"));
    let shown = house.casemate(&["snapshots", "get", "gold"]).expect(0).json();
    assert_eq!((&shown["containerId"], &shown["state"]), (&made["containerId"], &"SNAPSHOT_STATE_READY".into()));
    let needed = house.casemate(&["snapshots", "delete", "gold"]).expect(1).stderr;
    assert!(needed.contains("SNAPSHOT_UNUSABLE") && needed.contains("two"), "{needed}");
    house.casemate(&["containers", "kill", "two"]).expect(0);
    house.casemate(&["snapshots", "delete", "gold"]).expect(0);
    house.casemate(&["snapshots", "get", "gold"]).expect(5);
}
