//! What an image, a Docker daemon or an operator has or has not: it works, or it is said what is missing.

use crate::harness::reason;
use crate::kit::{EMPTY, House, ask, docker, image, sh, without_command};
use casemate::proto::v1;
use std::io::Write;
use std::net::Ipv4Addr;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Fields that an error names.
fn fields(error: &Status) -> Vec<String> {
    let details = error.get_error_details();
    let violations = details.bad_request().map(|request| request.field_violations.clone()).unwrap_or_default();
    violations.into_iter().map(|violation| violation.field).collect()
}

#[tokio::test]
async fn an_image_without_a_shell_runs_what_it_has() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let main = house.spawn(image(EMPTY, &["/end"])).await.unwrap();
    let end = house.ended(&main.id).await;
    assert_eq!((end.reason(), end.exit_code), (v1::ContainerEndReason::Exited, 7));
    let idle = house.spawn(image(&without_command(EMPTY), &[])).await.unwrap();
    assert_eq!(idle.control.as_ref().unwrap().kind(), v1::ContainerControlKind::Guest);
    let command = |program: &str| v1::ProcessSpec { command: vec![program.into()], ..Default::default() };
    for program in ["/end", "./../end"] {
        let execution = house.start(&idle.id, command(program)).await.unwrap();
        assert_eq!(house.follow(&execution.id, 0).await.code(), 7, "{program}");
    }
    for (program, text) in [("sh", "PATH"), ("/bin/sh", "check its name")] {
        let error = house.start(&idle.id, command(program)).await.unwrap_err();
        assert_eq!((error.code(), &*reason(&error)), (Code::FailedPrecondition, "PROCESS_NOT_STARTED"), "{error:?}");
        assert!(error.message().contains("no such program") && error.message().contains(text), "{error:?}");
    }
    // A main process that is not there is an end, not a container that hangs.
    let error = house.spawn(image(EMPTY, &["sh"])).await.unwrap_err();
    assert_eq!(&*reason(&error), "CONTAINER_FAILED");
    assert!(error.message().contains("no such program"), "{error:?}");
    assert_eq!(house.sandboxes().len(), 1, "the idle one alone");
}

#[tokio::test]
async fn a_disk_that_cannot_be_limited_is_not_pretended_to_be() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let resources = Some(v1::ContainerResources { disk_bytes: 64 << 20, ..Default::default() });
    match house.spawn(v1::ContainerSpec { resources, ..sh("sleep 1000") }).await {
        // A daemon whose storage has quotas.
        Ok(container) => {
            let options = ask(&["inspect", "-f", "{{.HostConfig.StorageOpt.size}}", &container.backend_id]);
            assert_eq!(options.trim(), (64 << 20).to_string());
        }
        Err(error) => {
            assert_eq!(error.code(), Code::InvalidArgument, "{error:?}");
            assert_eq!(fields(&error), ["spec.resources.disk_bytes"], "{error:?}");
            assert!(house.sandboxes().is_empty());
        }
    }
}

#[tokio::test]
async fn a_network_past_the_gate_is_the_operators_to_give() {
    if !docker() {
        return;
    }
    let direct = || v1::ContainerSpec { policy: v1::SandboxPolicy::ContainerDirect.into(), ..sh("sleep 1000") };
    let strict = House::open().await;
    let error = strict.spawn(direct()).await.unwrap_err();
    assert_eq!((error.code(), &*reason(&error)), (Code::PermissionDenied, "POLICY_DENIED"), "{error:?}");
    assert!(error.message().contains("containers.allow_direct"), "{error:?}");

    let house = House::with("allow_direct = true").await;
    let container = house.spawn(direct()).await.unwrap();
    // Somebody who listens on Docker's bridge, where the container's packets go. Docker itself does not always know.
    let routes = house.run(&container.id, "cat /proc/net/route").await.text();
    let gateway = routes.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let gateway = gateway.filter(|line| line.get(1) == Some(&"00000000")).find_map(|line| line.get(2).copied());
    let gateway = u32::from_str_radix(gateway.unwrap_or_else(|| panic!("{routes}")), 16).unwrap();
    let listener = std::net::TcpListener::bind((Ipv4Addr::from(gateway.to_ne_bytes()), 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.and_then(|mut stream| stream.write_all(b"reached\n"));
        }
    });
    let call = format!("ls /sys/class/net; nc {} {} < /dev/null", address.ip(), address.port());
    let ran = house.run(&container.id, &call).await;
    assert_eq!(ran.text(), "eth0\nlo\nreached\n", "{}", String::from_utf8_lossy(&ran.stderr));
    // Who does not ask for it has none, though it could be had.
    let ran = house.run(&house.idle().await.id, &call).await;
    assert_eq!(ran.text(), "lo\n");
    assert_ne!(ran.code(), 0);
}

#[tokio::test]
async fn runtimes_are_asked_for_by_name() {
    if !docker() {
        return;
    }
    let house = House::with("runtimes = [\"runc\", \"no-such-runtime\"]").await;
    let with = |runtime: &str| v1::ContainerSpec { runtime: runtime.into(), ..sh("sleep 1000") };
    let container = house.spawn(with("runc")).await.unwrap();
    assert_eq!(ask(&["inspect", "-f", "{{.HostConfig.Runtime}}", &container.backend_id]).trim(), "runc");
    assert_eq!(house.run(&container.id, "echo fine").await.text(), "fine\n");
    // The operator does not have it among those that may be asked for.
    let error = house.spawn(with("kata")).await.unwrap_err();
    assert_eq!(&*reason(&error), "POLICY_DENIED", "{error:?}");
    assert!(error.message().contains("containers.runtimes") && error.message().contains("kata"), "{error:?}");
    // Docker does not have it.
    let error = house.spawn(with("no-such-runtime")).await.unwrap_err();
    assert_eq!((error.code(), fields(&error)), (Code::InvalidArgument, vec!["spec.runtime".to_owned()]), "{error:?}");
    assert!(error.message().contains("no-such-runtime"), "{error:?}");
    let told = error.get_error_details().bad_request().unwrap().field_violations[0].description.clone();
    assert!(told.contains("runc"), "what there is instead: {told}");
    assert_eq!(house.sandboxes().len(), 1);
}
