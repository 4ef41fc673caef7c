//! A daemon whose disk is full.

use crate::daemon::Daemon;
use crate::harness::reason;
use crate::kit::{BUSYBOX, House, ask, sh};
use crate::mounted::Disk;
use casemate::proto::v1;
use tonic::Code;

#[tokio::test]
async fn a_full_disk_refuses_new_containers_and_leaves_the_others() {
    let Some(mut daemon) = Daemon::take().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let (root, archive) = (folder.path().join("docker"), folder.path().join("image.tar"));
    let archive = archive.display().to_string();
    let Some(disk) = Disk::mount(&root, "96m") else { return };
    ask(&["save", "-o", &archive, BUSYBOX]);
    daemon.restart(&["--data-root", &root.display().to_string()]);
    ask(&["load", "-i", &archive]);
    {
        let house = House::open().await;
        let (container, other) = (house.idle().await, house.idle().await);
        disk.fill();
        for _ in 0..3 {
            let error = house.spawn(sh("sleep 1000")).await.unwrap_err();
            assert_eq!((error.code(), &*reason(&error)), (Code::ResourceExhausted, "BACKEND_FULL"), "{error:?}");
            assert!(error.message().contains("make room"), "{error:?}");
        }
        // What runs goes on: it writes to memory, and speaks with the server.
        assert_eq!(house.get(&container.id).await.state(), v1::ContainerState::Running);
        assert_eq!(house.run(&container.id, "echo x > /workspace/f; cat /workspace/f").await.text(), "x\n");
        let killed = house.kill(&other.id).await.container.unwrap();
        assert_eq!(killed.end.unwrap().reason(), v1::ContainerEndReason::Killed);
        // With a little room the making gets further before it fails, and is told in the same way. Nothing of it is left.
        let ballast = std::fs::OpenOptions::new().write(true).open(root.join("ballast")).unwrap();
        let (mut room, mut refused) = (4096, 0);
        let made = loop {
            ballast.set_len(ballast.metadata().unwrap().len() - room).unwrap();
            match house.spawn(sh("sleep 1000")).await {
                Ok(made) => break made,
                Err(error) => assert_eq!(reason(&error), "BACKEND_FULL", "with {room} bytes more: {error:?}"),
            }
            (room, refused) = (room * 2, refused + 1);
        };
        assert!(refused > 0, "{room} bytes were enough");
        house.kill(&made.id).await;
        disk.free();
        let new = house.idle().await;
        assert_eq!(house.run(&new.id, "echo new").await.text(), "new\n");
        let mut there = house.sandboxes();
        there.sort();
        let mut expected = [&container, &new].map(|container| format!("casemate-{}", container.id));
        expected.sort();
        assert_eq!(there, expected, "nothing is left of what could not be made");
    }
    // Back to the usual disk before this one goes.
    daemon.restart(&[]);
}
