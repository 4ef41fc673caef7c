//! What Docker was really told, line by line, and what processes can really do.

use crate::kit::{House, PYTHON, ask, docker, image, sh};
use casemate::proto::v1;
use serde_json::{Value, json};

fn inspect(container: &v1::Container) -> Value {
    let text = ask(&["inspect", &container.backend_id]);
    serde_json::from_str::<Value>(&text).unwrap()[0].take()
}

#[tokio::test]
async fn every_line_of_the_hardening_is_set() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let container = house.spawn(sh("sleep 1000")).await.unwrap();
    let found = inspect(&container);
    let host = &found["HostConfig"];
    let expected = json!({
        "NetworkMode": "none",
        "Privileged": false,
        "ReadonlyRootfs": true,
        "CapAdd": [],
        "CapDrop": ["ALL"],
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "PidsLimit": 256,
        "Memory": 512 << 20,
        "MemorySwap": 512 << 20,
        "NanoCpus": 1_000_000_000u64,
        "CpuShares": 1024,
        "ShmSize": 64 << 20,
        "PublishAllPorts": false,
        "AutoRemove": false,
        "RestartPolicy": { "Name": "no", "MaximumRetryCount": 0 },
        "OomScoreAdj": 500,
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&host[key], value, "{key}");
    }
    for key in ["PidMode", "UsernsMode", "UTSMode"] {
        assert_eq!(host[key], "", "{key}");
    }
    let options: Vec<&str> =
        host["SecurityOpt"].as_array().unwrap().iter().map(|option| option.as_str().unwrap()).collect();
    assert!(options.contains(&"no-new-privileges:true") || options.contains(&"no-new-privileges"), "{options:?}");
    let profile = options.iter().find_map(|option| option.strip_prefix("seccomp=")).expect("a seccomp profile");
    let profile: Value = serde_json::from_str(profile).unwrap();
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let files = host["Ulimits"].as_array().unwrap().iter().find(|limit| limit["Name"] == "nofile").unwrap();
    assert_eq!((&files["Soft"], &files["Hard"]), (&json!(1024), &json!(1024)));
    for path in ["/proc/kcore", "/proc/keys", "/sys/firmware"] {
        assert!(host["MaskedPaths"].as_array().unwrap().contains(&json!(path)), "{path}");
    }
    for path in ["/proc/sys", "/proc/sysrq-trigger"] {
        assert!(host["ReadonlyPaths"].as_array().unwrap().contains(&json!(path)), "{path}");
    }
    for path in ["/tmp", "/run", "/workspace"] {
        let options = host["Tmpfs"][path].as_str().unwrap_or_else(|| panic!("{path}: {}", host["Tmpfs"]));
        assert!(options.contains("nosuid") && options.contains("nodev") && options.contains("size="), "{options}");
    }
    let mounts = found["Mounts"].as_array().unwrap();
    let binds: Vec<&Value> = mounts.iter().filter(|mount| mount["Type"] == "bind").collect();
    assert_eq!(binds.len(), 1, "the supervisor's directory alone");
    assert_eq!((&binds[0]["Destination"], &binds[0]["RW"]), (&json!("/.casemate"), &json!(false)));
    assert_eq!(found["Config"]["User"], "1000:1000");
    assert_eq!(found["Image"], container.image_id);
    assert_eq!(host["LogConfig"]["Config"]["max-size"], "1m");
}

#[tokio::test]
async fn processes_can_do_no_more_than_that() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let container = house.spawn(image(PYTHON, &["/bin/sleep", "1000"])).await.unwrap();
    let status = house.run(&container.id, "cat /proc/self/status").await.text();
    let line = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().to_owned()
    };
    for name in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(line(name), "0000000000000000", "{name}");
    }
    assert_eq!((line("NoNewPrivs:"), line("Seccomp:"), line("Uid:")), ("1".into(), "2".into(), "1000".into()));
    for (what, script) in [
        ("write to the root", "echo x > /x"),
        ("write beside the supervisor", "echo x > /.casemate/x"),
        ("replace the supervisor", "rm /.casemate/guest"),
        ("write to /etc", "echo x >> /etc/passwd"),
        ("write to the kernel's settings", "echo 1 > /proc/sys/kernel/printk"),
        ("read the kernel's memory", "head -c 1 /proc/kcore | grep ."),
        ("mount", "mount -t tmpfs none /tmp"),
        ("leave its namespaces", "unshare -U true"),
        ("trace", "python3 -c 'import ctypes,sys; sys.exit(ctypes.CDLL(None).ptrace(16, 1, 0, 0) == 0)' && false"),
        ("read the supervisor's memory", "cat /proc/1/mem | head -c 1 | grep ."),
        ("look at the supervisor's files", "ls /proc/1/fd | grep ."),
        ("kill the supervisor", "kill -9 1; kill -0 1 2>/dev/null && false"),
        ("make a device", "mknod /workspace/null c 1 3"),
        ("reach the network", "ping -c 1 -W 1 1.1.1.1"),
        ("become root", "su -c true"),
    ] {
        let ran = house.run(&container.id, script).await;
        assert_ne!(ran.code(), 0, "could {what}: {}{}", ran.text(), String::from_utf8_lossy(&ran.stderr));
    }
    // It is all there, still.
    assert_eq!(house.run(&container.id, "echo fine").await.text(), "fine\n");
}

#[tokio::test]
async fn what_pretends_to_be_the_guest_is_not_listened_to() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let container = house.spawn(image(PYTHON, &["/bin/sleep", "1000"])).await.unwrap();
    // Connects as the guest does, again and again, and says something.
    let code = "import socket, os\n\
        answered = 0\n\
        for _ in range(300):\n\
        \x20   s = socket.socket(socket.AF_UNIX)\n\
        \x20   s.settimeout(5)\n\
        \x20   try:\n\
        \x20       s.connect('/.casemate/guest.sock'); s.sendall(b'\\x05\\0\\0\\0\\x01\\0\\0\\0\\x08'); answered += len(s.recv(100))\n\
        \x20   except OSError: pass\n\
        \x20   s.close()\n\
        print(answered)";
    let process = v1::ProcessSpec { command: vec!["python3".into(), "-c".into(), code.into()], ..Default::default() };
    let execution = house.start(&container.id, process).await.unwrap();
    let ran = house.follow(&execution.id, 0).await;
    assert_eq!((ran.text().as_str(), ran.code()), ("0\n", 0), "{}", String::from_utf8_lossy(&ran.stderr));
    assert_eq!(house.run(&container.id, "echo fine").await.text(), "fine\n");
    assert_eq!(house.get(&container.id).await.state(), v1::ContainerState::Running);
}
