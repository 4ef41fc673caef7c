//! Files and ports of containers: cp, ls, cat, watch, forward.

use crate::house::{House, docker};
use crate::kit::{finish_with_input, wait};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;

#[test]
fn files_go_in_and_out() {
    if !docker() {
        return;
    }
    let house = House::open();
    house.idle("box");
    let here = |name: &str| house.server().path(name);
    let big: Vec<u8> = (0..3_000_000u32).map(|at| (at % 251) as u8).collect();
    std::fs::write(here("big"), &big).unwrap();
    std::fs::set_permissions(here("big"), std::fs::Permissions::from_mode(0o750)).unwrap();
    let path = |name: &str| here(name).to_str().unwrap().to_owned();
    // Into a directory, under another name, from standard input.
    house.casemate(&["cp", &path("big"), "box:"]).expect(0);
    house.casemate(&["cp", "-p", &path("big"), "box:deep/down/copy"]).expect(0);
    let command = house.server().client(&["cp", "-", "box:/tmp/typed"]);
    finish_with_input(command, "typed\n").expect(0);
    assert_eq!(house.casemate(&["cat", "box:/tmp/typed", "box:/tmp/typed"]).expect(0).stdout, "typed\ntyped\n");
    let list = house.casemate(&["ls", "--depth", "3", "box:"]).expect(0).json();
    let told: Vec<_> =
        list["entries"].as_array().unwrap().iter().map(|entry| entry["path"].as_str().unwrap()).collect();
    let expected = ["/workspace/big", "/workspace/deep", "/workspace/deep/down", "/workspace/deep/down/copy"];
    assert_eq!(told, expected);
    assert_eq!((&list["entries"][0]["sizeBytes"], &list["entries"][0]["mode"]), (&3_000_000.into(), &"0750".into()));
    // And out, with its mode; into a directory; to standard output.
    house.casemate(&["cp", "box:deep/down/copy", &path("back")]).expect(0);
    assert_eq!(std::fs::read(here("back")).unwrap(), big);
    assert_eq!(std::fs::metadata(here("back")).unwrap().permissions().mode() & 0o777, 0o750);
    std::fs::create_dir(here("folder")).unwrap();
    house.casemate(&["cp", "box:/tmp/typed", &path("folder")]).expect(0);
    assert_eq!(std::fs::read(here("folder/typed")).unwrap(), b"typed\n");
    assert_eq!(house.casemate(&["cp", "box:/tmp/typed", "-"]).expect(0).stdout, "typed\n");
    // What cannot be done says so, and leaves nothing.
    assert!(house.casemate(&["cat", "box:none"]).expect(5).stderr.contains("FILE_NOT_FOUND"));
    assert!(house.casemate(&["cp", &path("none"), "box:x"]).expect(1).stderr.contains("No such file"));
    house.casemate(&["cp", "a", "b"]).expect(2);
    assert!(house.casemate(&["ls", "nobody:"]).expect(5).stderr.contains("CONTAINER_NOT_FOUND"));
}

#[test]
fn directories_go_in_and_out() {
    if !docker() {
        return;
    }
    let house = House::open();
    house.idle("box");
    let here = |name: &str| house.server().path(name);
    let path = |name: &str| here(name).to_str().unwrap().to_owned();
    std::fs::create_dir_all(here("tree/deep/empty")).unwrap();
    std::fs::write(here("tree/a"), "a").unwrap();
    std::fs::write(here("tree/deep/run"), vec![7; 2_000_000]).unwrap();
    std::fs::set_permissions(here("tree/deep/run"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("deep/run", here("tree/link")).unwrap();
    // Into a directory that is there, and as one that is not.
    house.casemate(&["cp", &path("tree"), "box:"]).expect(0);
    house.casemate(&["cp", &path("tree"), "box:new/name"]).expect(0);
    let script =
        "cd /workspace; diff -r tree new/name && readlink tree/link && stat -c %a tree/deep/run && ls tree/deep";
    let told = house.casemate(&["exec", "box", "sh", "-c", script]).expect(0).stdout;
    assert_eq!(told, "deep/run\n755\nempty\nrun\n");
    house.casemate(&["cp", "box:tree", &path("back")]).expect(0);
    std::fs::create_dir(here("into")).unwrap();
    house.casemate(&["cp", "box:tree", &path("into")]).expect(0);
    for folder in ["back", "into/tree"] {
        assert_eq!(std::fs::read(here(folder).join("a")).unwrap(), b"a");
        assert_eq!(std::fs::read(here(folder).join("deep/run")).unwrap(), vec![7; 2_000_000]);
        assert_eq!(std::fs::read_link(here(folder).join("link")).unwrap().to_str(), Some("deep/run"));
        assert!(here(folder).join("deep/empty").is_dir());
    }
    // The whole workspace.
    house.casemate(&["cp", "box:", &path("all")]).expect(0);
    assert_eq!(std::fs::read(here("all/new/name/a")).unwrap(), b"a");
    assert!(house.casemate(&["cp", "box:none", &path("x")]).expect(5).stderr.contains("FILE_NOT_FOUND"));
}

#[test]
fn changes_are_printed_as_they_happen() {
    if !docker() {
        return;
    }
    let house = House::open();
    house.idle("box");
    let (mut watch, lines) = house.server().start(&["watch", "box:"]);
    // Until the watch is in place nothing is told.
    house.until("a change is told", |house| {
        house.casemate(&["exec", "box", "touch", "/workspace/first"]).expect(0);
        lines.try_until("first").is_some()
    });
    house.casemate(&["exec", "box", "sh", "-c", "echo x >/workspace/f && mv /workspace/f /workspace/g"]).expect(0);
    let moved = lines.until("movedFromPath");
    let moved: serde_json::Value = serde_json::from_str(&moved).unwrap();
    assert_eq!((&moved["path"], &moved["movedFromPath"]), (&"/workspace/g".into(), &"/workspace/f".into()));
    house.casemate(&["containers", "kill", "box"]).expect(0);
    assert_eq!(wait(&mut watch).code(), Some(1));
}

#[test]
fn ports_inside_are_reached_here() {
    if !docker() {
        return;
    }
    let house = House::open();
    house.spawn("box", "while nc -l -p 8000 -e cat; do :; done");
    let (mut forward, lines) = house.server().start(&["forward", "box", "0:8000", "0:9"]);
    let address = |line: String| line.split(' ').next().unwrap().to_owned();
    let (open, closed) = (address(lines.until("8000")), address(lines.until(":9")));
    let echoed = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(&open)?;
        stream.write_all(b"hello")?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut back = Vec::new();
        stream.read_to_end(&mut back)?;
        Ok(back)
    };
    // The server inside may not listen yet.
    house.until("an echo comes back", |_| echoed().is_ok_and(|back| back == b"hello"));
    // Nobody listens there: the connection is cut.
    let mut stream = TcpStream::connect(&closed).unwrap();
    assert!(stream.read(&mut [0]).is_ok_and(|read| read == 0) || stream.read(&mut [0]).is_err());
    house.casemate(&["containers", "kill", "box"]).expect(0);
    drop(stream);
    forward.kill().unwrap();
    wait(&mut forward);
}
