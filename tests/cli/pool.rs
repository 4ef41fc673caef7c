//! pool: create, list, get, update, delete, lease, release.

use crate::house::{BUSYBOX, House, docker};

#[test]
fn a_pool_from_its_making_to_its_end() {
    if !docker() {
        return;
    }
    let house = House::open();
    let made = house.casemate(&[
        "pool",
        "create",
        "warm",
        BUSYBOX,
        "--size",
        "2",
        "--max",
        "3",
        "--lease-time",
        "10m",
        "--idle-age",
        "1h",
        "--max-waiting",
        "4",
        "--description",
        "for tests",
        "--label",
        "team=a",
        "--env",
        "SECRET=word",
        "--memory",
        "64MiB",
        "--",
        "sleep",
        "100000",
    ]);
    let made = made.expect(0).json();
    assert_eq!((&made["name"], &made["targetSize"], &made["maxSize"]), (&"warm".into(), &2.into(), &3.into()));
    assert_eq!((&made["labels"]["team"], &made["maxLeaseTime"]), (&"a".into(), &"600s".into()));
    assert!(!made.to_string().contains("word"), "{made}");
    let get = |house: &House| house.casemate(&["pool", "get", "warm"]).expect(0).json();
    house.until("it is full", |house| get(house)["state"] == "POOL_STATE_READY");
    let id = house.casemate(&["pool", "lease", "warm", "--label", "job=7"]).expect(0).stdout.trim_end().to_owned();
    let ran = house.casemate(&["exec", &id, "sh", "-c", "echo $SECRET"]).expect(0);
    assert_eq!(ran.stdout, "word\n");
    let shown = house.get(&id);
    assert_eq!((&shown["pool"], &shown["spec"]["labels"]["job"]), (&"warm".into(), &"7".into()));
    let second = house.casemate(&["pool", "lease", "warm", "--time", "5s", "--json"]).expect(0).json();
    assert_eq!(second["lease"]["pool"], "warm");
    let lease = second["lease"]["id"].as_str().unwrap();
    house.casemate(&["pool", "release", &id, lease]).expect(0);
    assert!(house.casemate(&["exec", &id, "true"]).code != 0);
    let changed = house.casemate(&["pool", "update", "warm", "--size", "1", "--max-waiting", "0"]).expect(0).json();
    assert_eq!((&changed["targetSize"], changed["etag"] != made["etag"]), (&1.into(), true));
    let stale = house.casemate(&["pool", "update", "warm", "--size", "2", "--etag", "old"]).expect(1).stderr;
    assert!(stale.contains("ETAG_MISMATCH") && stale.contains("casemate pool get"), "{stale}");
    house.casemate(&["pool", "update", "warm"]).expect(2);
    let list = |filter: &[&str]| {
        let list = house.casemate(&[&["pool", "list"], filter].concat()).expect(0).json();
        list["pools"].as_array().unwrap().len()
    };
    assert_eq!((list(&[]), list(&["--label", "team=b"]), list(&["--prefix", "wa"])), (1, 0, 1));
    house.casemate(&["pool", "delete", "warm", "--force"]).expect(0);
    let gone = house.casemate(&["pool", "get", "warm"]).expect(5).stderr;
    assert!(gone.contains("POOL_NOT_FOUND") && gone.contains("casemate pool list"), "{gone}");
    house.casemate(&["pool", "create", "warm"]).expect(2);
    let late = house.casemate(&["pool", "lease", "none"]).expect(5).stderr;
    assert!(late.contains("POOL_NOT_FOUND"), "{late}");
}

#[test]
fn tools_run_inside_containers_and_pools() {
    if !docker() {
        return;
    }
    let house = House::open();
    let id = house.idle("box");
    let run = |arguments: &[&str]| house.casemate(&[&["run"], arguments].concat());
    let ran = run(&["--in", &id, "shell", "echo out; echo err >&2; exit 3"]).expect(3);
    assert_eq!(ran.stdout, "out\n");
    assert!(ran.stderr.starts_with("err\n"), "{}", ran.stderr);
    let ran = run(&["--in", &id, "code", "--language", "sh", "echo $1", "--arg", "given"]).expect(0);
    assert_eq!(ran.stdout, "given\n");
    let refused = run(&["--in", &id, "code", "--language", "rust", "fn main() {}"]).expect(125).stderr;
    assert!(refused.contains("rustc") && refused.contains("sh"), "{refused}");
    run(&["--in", &id, "--pool", "p", "shell", "true"]).expect(2);
    let schemas = house.casemate(&["tools", "schemas", "--in", &id]).expect(0).json();
    let names: Vec<&str> =
        schemas.as_array().unwrap().iter().map(|one| one["function"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["code", "files", "shell"]);
    house.casemate(&["pool", "create", "once", BUSYBOX, "--size", "1", "--", "sleep", "100000"]).expect(0);
    let schemas = house.casemate(&["tools", "schemas", "--pool", "once"]).expect(0).json();
    assert_eq!(schemas.as_array().unwrap().len(), 3);
    for _ in 0..2 {
        let ran = run(&["--pool", "once", "shell", "ls -A; echo x > x"]).expect(0);
        assert_eq!(ran.stdout, "");
    }
}
