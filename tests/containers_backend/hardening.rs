//! Each line of the hardening: what Docker says it does, and what a process inside finds.

use crate::kit::on_docker;
use casemate::container::backend::ExecRequest;
use casemate::container::backend::{Backend, Bind};
use casemate::container::docker::SECCOMP;
use casemate::domain::container::Tmpfs;
use serde_json::json;

#[test]
fn docker_was_told_everything() {
    on_docker(|corner| async move {
        let directory = tempfile::tempdir().unwrap();
        let mut blueprint = corner.blueprint("exec sleep 600").await;
        blueprint.groups = vec![2000];
        blueprint.capabilities = vec!["CAP_CHOWN".into()];
        blueprint.binds.push(Bind { host: directory.path().into(), inside: "/in".into(), writable: false });
        blueprint.tmpfs.push(Tmpfs {
            container_path: "/tmp".into(),
            size_bytes: 1 << 20,
            mode: 0o700,
            executable: false,
        });
        let id = corner.run(&blueprint).await.unwrap();
        let seen = corner.inspect(&id);
        let host = &seen["HostConfig"];
        for (name, expected) in [
            ("NetworkMode", json!("none")),
            ("PublishAllPorts", json!(false)),
            ("IpcMode", json!("private")),
            ("PidMode", json!("")),
            ("UTSMode", json!("")),
            ("CgroupnsMode", json!("private")),
            ("Devices", json!([])),
            ("Privileged", json!(false)),
            ("CapDrop", json!(["ALL"])),
            ("CapAdd", json!(["CAP_CHOWN"])),
            ("SecurityOpt", json!(["no-new-privileges:true", format!("seccomp={SECCOMP}")])),
            ("GroupAdd", json!(["2000"])),
            ("Runtime", json!("runc")),
            ("ReadonlyRootfs", json!(true)),
            ("Binds", json!(null)),
            ("Tmpfs", json!({"/tmp": "rw,nosuid,nodev,noexec,size=1048576,mode=700,uid=1000,gid=1000"})),
            ("ShmSize", json!(4 << 20)),
            ("Memory", json!(64 << 20)),
            ("MemorySwap", json!(64 << 20)),
            ("OomScoreAdj", json!(500)),
            ("NanoCpus", json!(1_000_000_000)),
            ("CpuShares", json!(1024)),
            ("PidsLimit", json!(64)),
            ("Ulimits", json!([{"Name": "nofile", "Soft": 256, "Hard": 256}, {"Name": "core", "Soft": 0, "Hard": 0}])),
            ("Init", json!(false)),
            ("AutoRemove", json!(false)),
            ("RestartPolicy", json!({"Name": "no", "MaximumRetryCount": 0})),
            ("LogConfig", json!({"Type": "json-file", "Config": {"max-file": "1", "max-size": "1m"}})),
        ] {
            assert_eq!(host[name], expected, "{name}");
        }
        let mount = &host["Mounts"][0];
        assert_eq!((&mount["Type"], &mount["ReadOnly"]), (&json!("bind"), &json!(true)));
        assert_eq!(mount["BindOptions"]["Propagation"], "rprivate");
        for (list, path) in [
            ("MaskedPaths", "/proc/kcore"),
            ("MaskedPaths", "/proc/kallsyms"),
            ("MaskedPaths", "/sys/firmware"),
            ("MaskedPaths", "/sys/kernel/debug"),
            ("ReadonlyPaths", "/proc/sys"),
            ("ReadonlyPaths", "/proc/sysrq-trigger"),
        ] {
            assert!(host[list].as_array().unwrap().contains(&json!(path)), "{path}");
        }
        let config = &seen["Config"];
        for (name, expected) in [
            ("Hostname", json!("box")),
            ("Domainname", json!("")),
            ("User", json!("1000:1000")),
            ("Entrypoint", json!(["/bin/sh", "-c", "exec sleep 600"])),
            ("Cmd", json!(null)),
            ("WorkingDir", json!("/")),
            ("Tty", json!(false)),
            ("OpenStdin", json!(false)),
            ("Healthcheck", json!({"Test": ["NONE"]})),
        ] {
            let found = &config[name];
            assert!(*found == expected || (expected.is_null() && *found == json!([])), "{name}: {found}");
        }
        assert_eq!(config["Labels"]["casemate.container"], blueprint.container.to_string());
        assert_eq!(config["Labels"]["casemate.installation"], blueprint.installation);
        assert_eq!(seen["Name"], format!("/casemate-{}", blueprint.container));
    });
}

#[test]
fn a_process_finds_itself_confined() {
    on_docker(|corner| async move {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("file"), "x").unwrap();
        let mut blueprint = corner.blueprint("exec sleep 600").await;
        blueprint.user = "0:0".into();
        blueprint.groups = vec![2000];
        blueprint.binds.push(Bind { host: directory.path().into(), inside: "/in".into(), writable: false });
        blueprint.tmpfs.push(Tmpfs {
            container_path: "/t".into(),
            size_bytes: 1 << 20,
            mode: 0o1777,
            executable: false,
        });
        let id = corner.run(&blueprint).await.unwrap();
        for (command, expected) in [
            // Docker gives processes of its own the sandbox's bounds, too.
            ("grep CapBnd /proc/1/status", "CapBnd:\t0000000000000000\n"),
            ("grep CapEff /proc/1/status", "CapEff:\t0000000000000000\n"),
            ("grep NoNewPrivs /proc/1/status", "NoNewPrivs:\t1\n"),
            ("grep Seccomp: /proc/1/status", "Seccomp:\t2\n"),
            ("grep Groups: /proc/1/status | tr -d ' '", "Groups:\t02000\n"),
            ("cat /proc/1/oom_score_adj", "500\n"),
            ("ulimit -n; ulimit -Hn; ulimit -c", "256\n256\n0\n"),
            ("hostname", "box\n"),
            ("ls /sys/class/net", "lo\n"),
            ("cat /in/file", "x"),
            ("cat /proc/kcore /proc/kallsyms 2>/dev/null | wc -c; ls /sys/firmware | wc -l", "0\n0\n"),
            ("df -k /dev/shm | tail -n 1 | tr -s ' ' | cut -d ' ' -f 2", "4096\n"),
            ("grep -c ' /t tmpfs rw,nosuid,nodev,noexec' /proc/mounts", "1\n"),
        ] {
            let (code, out, err) = corner.sh(&id, command).await;
            assert_eq!((out.as_str(), err.as_str(), code), (expected, "", 0), "{command}");
        }
        for refused in [
            "echo x >/x",
            "echo x >/in/x",
            "echo x >/proc/sys/kernel/hostname",
            "echo x >/proc/sysrq-trigger",
            "mount -t tmpfs x /t",
            "mknod /t/null c 1 3",
            "chown 5 /t",
            "unshare -U true",
            "cp /bin/busybox /t/busybox && /t/busybox true",
            "head -c 2000000 /dev/zero >/t/full",
        ] {
            let (code, _, err) = corner.sh(&id, refused).await;
            assert_ne!(code, 0, "{refused}: {err}");
        }
    });
}

#[test]
fn limits_hold() {
    on_docker(|corner| async move {
        let mut blueprint = corner.blueprint("exec sleep 600").await;
        blueprint.resources.pids = 16;
        blueprint.resources.cpu_millis = 100;
        let id = corner.run(&blueprint).await.unwrap();
        let before = corner.docker.consumption(&id).await.unwrap();
        let (code, _, err) = corner.sh(&id, "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done").await;
        assert_eq!(code, 0, "{err}");
        let after = corner.docker.consumption(&id).await.unwrap();
        assert!(after.throttled_time > before.throttled_time, "{before:?} {after:?}");
        // Last, as what it leaves running takes the places of whatever would be started after it.
        let (_, _, err) = corner.sh(&id, "for i in $(seq 40); do sleep 5 & done; true").await;
        assert!(err.contains("fork"), "{err}");
    });
}

#[test]
fn what_is_asked_for_is_given() {
    on_docker(|corner| async move {
        let directory = tempfile::tempdir().unwrap();
        let mut blueprint = corner.blueprint("exec sleep 600").await;
        blueprint.user = "0".into();
        blueprint.writable_root = true;
        blueprint.network = true;
        blueprint.capabilities = vec!["CAP_CHOWN".into()];
        blueprint.binds.push(Bind { host: directory.path().into(), inside: "/in".into(), writable: true });
        blueprint.tmpfs.push(Tmpfs { container_path: "/t".into(), size_bytes: 4 << 20, mode: 0o755, executable: true });
        let id = corner.run(&blueprint).await.unwrap();
        for command in [
            "echo x >/x && chown 5 /x",
            "ls /sys/class/net | grep -q eth0",
            "echo x >/in/x",
            "cp /bin/busybox /t/busybox && /t/busybox true",
        ] {
            let (code, _, err) = corner.sh(&id, command).await;
            assert_eq!((code, err.as_str()), (0, ""), "{command}");
        }
        assert!(directory.path().join("x").exists());
    });
}

#[test]
fn memory_file_systems_are_writable_by_whoever_runs() {
    on_docker(|corner| async move {
        for user in ["1000:1000", "1000", "sandbox", "65534:65534", "0:0"] {
            let mut blueprint = corner.blueprint("echo x >/work/x && exec sleep 600").await;
            blueprint.user = user.into();
            blueprint.tmpfs.push(Tmpfs {
                container_path: "/work".into(),
                size_bytes: 1 << 20,
                mode: 0o700,
                executable: false,
            });
            let id = corner.run(&blueprint).await.unwrap();
            let (code, out, err) = corner.sh(&id, "cat /work/x").await;
            assert_eq!((code, out.as_str(), err.as_str()), (0, "x\n", ""), "{user}");
        }
    });
}

#[test]
fn volumes_of_an_image_take_no_disk() {
    on_docker(|corner| async move {
        let tag = format!("casemate-test/volumes:{}", corner.installation);
        let base = corner.docker.create(&corner.blueprint("true").await).await.unwrap();
        let docker = |arguments: &[&str]| {
            let output = std::process::Command::new("docker").args(arguments).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        docker(&["commit", "--change=VOLUME /data /work", "--change=HEALTHCHECK CMD true", &base, &tag]);
        let mut blueprint = corner.blueprint_of(&tag, &["/bin/sleep", "600"]).await;
        blueprint.tmpfs.push(Tmpfs {
            container_path: "/work".into(),
            size_bytes: 1 << 20,
            mode: 0o700,
            executable: false,
        });
        let id = corner.run(&blueprint).await.unwrap();
        let seen = corner.inspect(&id);
        let mounts = seen["Mounts"].as_array().unwrap();
        let types: Vec<_> = mounts.iter().map(|mount| (mount["Destination"].clone(), mount["Type"].clone())).collect();
        assert!(types.contains(&(json!("/data"), json!("tmpfs"))), "{types:?}");
        let (code, _, err) = corner.sh(&id, "echo x >/data/x && echo x >/work/x").await;
        assert_eq!(code, 0, "{err}");
        let (code, _, _) = corner.sh(&id, "head -c 20000000 /dev/zero >/data/full").await;
        assert_ne!(code, 0);
        let volumes: Vec<String> =
            mounts.iter().filter_map(|mount| mount["Name"].as_str()).map(str::to_owned).collect();
        corner.docker.remove(&id).await.unwrap();
        let left = docker(&["volume", "ls", "-q"]);
        assert!(volumes.iter().all(|volume| !left.contains(volume)), "{volumes:?}");
        corner.docker.remove(&base).await.unwrap();
        docker(&["rmi", &tag]);
    });
}

#[test]
fn python_works_in_it() {
    on_docker(|corner| async move {
        let mut blueprint = corner.blueprint_of("casemate-test/python:1", &["/bin/sleep", "600"]).await;
        blueprint.tmpfs.push(Tmpfs {
            container_path: "/tmp".into(),
            size_bytes: 8 << 20,
            mode: 0o1777,
            executable: false,
        });
        let id = corner.run(&blueprint).await.unwrap();
        let program = "
import hashlib, json, os, platform, socket, sqlite3, subprocess, sys, tempfile, threading, time
import concurrent.futures, multiprocessing
assert os.cpu_count() >= 1 and platform.uname().system == 'Linux'
assert len(os.urandom(8)) == 8 and os.getloadavg()
with tempfile.NamedTemporaryFile() as f: f.write(b'x')
db = sqlite3.connect('/tmp/x.db'); db.execute('create table t(a)'); db.commit()
a, b = socket.socketpair(); a.send(b'x'); assert b.recv(1) == b'x'
s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()
t = threading.Thread(target=lambda: time.sleep(.01)); t.start(); t.join()
assert subprocess.run(['/bin/echo', 'x'], capture_output=True).stdout == b'x\\n'
with concurrent.futures.ProcessPoolExecutor(2) as pool: assert list(pool.map(abs, [-1])) == [1]
print(hashlib.sha256(b'').hexdigest()[:8])
";
        let command = ["/usr/bin/python3", "-c", program].map(str::to_owned).to_vec();
        let (code, out, err) = corner.exec(&id, ExecRequest { command, ..ExecRequest::default() }).await;
        assert_eq!((code, out.as_str(), err.as_str()), (0, "e3b0c442\n", ""));
    });
}
