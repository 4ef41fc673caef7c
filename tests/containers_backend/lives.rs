//! From the making of a sandbox to its removal.

use crate::kit::{Corner, eventually, on_docker};
use casemate::container::backend::{Backend, BackendError, Bind, Ending, Standing};
use casemate::domain::id::ContainerId;
use std::time::{Duration, Instant};

async fn ending(corner: &Corner, command: &str) -> Ending {
    let id = corner.run(&corner.blueprint(command).await).await.unwrap();
    let ending = corner.docker.ended(&id).await.unwrap();
    assert_eq!(corner.docker.look(&id).await.unwrap(), Standing::Over(ending.clone()));
    ending
}

#[test]
fn a_sandbox_is_made_runs_and_ends() {
    on_docker(|corner| async move {
        let blueprint = corner.blueprint("exec sleep 600").await;
        let id = corner.docker.create(&blueprint).await.unwrap();
        assert_eq!(corner.docker.look(&id).await.unwrap(), Standing::Made);
        corner.docker.start(&id).await.unwrap();
        corner.docker.start(&id).await.unwrap();
        let standing = corner.docker.look(&id).await.unwrap();
        let Standing::Running { pid, paused: false } = standing else { panic!("{standing:?}") };
        assert!(pid > 1);

        let waiting = tokio::spawn({
            let (docker, id) = (corner.docker.clone(), id.clone());
            async move { docker.ended(&id).await }
        });
        corner.docker.kill(&id).await.unwrap();
        assert_eq!(waiting.await.unwrap().unwrap(), Ending { code: 137, ..Ending::default() });
        corner.docker.kill(&id).await.unwrap();

        corner.docker.remove(&id).await.unwrap();
        corner.docker.remove(&id).await.unwrap();
        for result in [
            corner.docker.look(&id).await.map(|_| ()),
            corner.docker.ended(&id).await.map(|_| ()),
            corner.docker.start(&id).await,
            corner.docker.pause(&id).await,
        ] {
            assert!(matches!(result, Err(BackendError::NotFound(_))), "{result:?}");
        }
        corner.docker.kill(&id).await.expect_err("of one that is gone nothing is known");
    });
}

#[test]
fn ends_are_told_apart() {
    on_docker(|corner| async move {
        assert_eq!(ending(&corner, "exit 0").await, Ending::default());
        assert_eq!(ending(&corner, "exit 7").await.code, 7);
        let full = ending(&corner, "x=x; while :; do x=$x$x; done").await;
        assert!(full.out_of_memory, "{full:?}");

        let empty = corner.blueprint_of("casemate-test/empty:1", &["/end"]).await;
        let id = corner.run(&empty).await.unwrap();
        assert_eq!(corner.docker.ended(&id).await.unwrap().code, 7);
        // Of one that never ran there is nothing to wait for.
        let id = corner.docker.create(&corner.blueprint("exit 0").await).await.unwrap();
        assert_eq!(corner.docker.ended(&id).await.unwrap(), Ending::default());
    });
}

#[test]
fn a_start_that_fails_is_over_and_says_why() {
    on_docker(|corner| async move {
        let blueprint = corner.blueprint_of("casemate-test/empty:1", &["/missing"]).await;
        let id = corner.docker.create(&blueprint).await.unwrap();
        let error = corner.docker.start(&id).await.unwrap_err();
        assert!(matches!(error, BackendError::Refused(_)), "{error:?}");
        let standing = corner.docker.look(&id).await.unwrap();
        let Standing::Over(ending) = standing else { panic!("{standing:?}") };
        assert!(ending.problem.contains("/missing"), "{ending:?}");
        assert_eq!(corner.docker.ended(&id).await.unwrap(), ending);
    });
}

#[test]
fn all_processes_freeze_and_thaw() {
    on_docker(|corner| async move {
        let id = corner.idle().await;
        let paused = |wanted: bool| {
            let (corner, id) = (corner.clone(), id.clone());
            async move {
                let standing = corner.docker.look(&id).await.unwrap();
                assert!(matches!(standing, Standing::Running { paused, .. } if paused == wanted), "{standing:?}");
            }
        };
        corner.docker.resume(&id).await.unwrap();
        corner.docker.pause(&id).await.unwrap();
        paused(true).await;
        corner.docker.pause(&id).await.unwrap();
        assert!(corner.docker.consumption(&id).await.is_ok());
        corner.docker.resume(&id).await.unwrap();
        paused(false).await;
        corner.docker.resume(&id).await.unwrap();

        corner.docker.pause(&id).await.unwrap();
        let began = Instant::now();
        corner.docker.kill(&id).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert_eq!(corner.docker.ended(&id).await.unwrap().code, 137);
        for result in [corner.docker.pause(&id).await, corner.docker.resume(&id).await] {
            assert!(matches!(result, Err(BackendError::Conflict(_))), "{result:?}");
        }

        let id = corner.idle().await;
        corner.docker.pause(&id).await.unwrap();
        // Both at once: one of them finds the other at work.
        let (first, second) = tokio::join!(corner.docker.remove(&id), corner.docker.remove(&id));
        assert_eq!((first, second), (Ok(()), Ok(())));
        assert!(corner.docker.find(&corner.installation).await.unwrap().iter().all(|found| found.id != id));
    });
}

#[test]
fn a_sandbox_that_is_frozen_does_nothing_before_it_is_killed() {
    on_docker(|corner| async move {
        let directory = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(directory.path(), Some(1000), Some(1000)).unwrap();
        let mut blueprint = corner.blueprint("cd /out; while :; do echo . >>ticks; done").await;
        blueprint.binds.push(Bind { host: directory.path().into(), inside: "/out".into(), writable: true });
        let id = corner.run(&blueprint).await.unwrap();
        let size = || std::fs::metadata(directory.path().join("ticks")).map(|file| file.len()).unwrap_or(0);
        eventually(|| async { (size() > 100).then_some(()) }).await;
        corner.docker.pause(&id).await.unwrap();
        let before = size();
        corner.docker.kill(&id).await.unwrap();
        assert_eq!(size(), before);
    });
}

#[test]
fn a_retry_after_a_crash_finds_what_was_made() {
    on_docker(|corner| async move {
        let blueprint = corner.blueprint("exec sleep 600").await;
        let id = corner.docker.create(&blueprint).await.unwrap();
        assert_eq!(corner.docker.create(&blueprint).await.unwrap(), id);
        corner.docker.start(&id).await.unwrap();
        assert_eq!(corner.docker.create(&blueprint).await.unwrap(), id);

        let mut other = blueprint.clone();
        other.installation = "other".into();
        let mut image = blueprint.clone();
        image.image_id = corner.blueprint_of("casemate-test/empty:1", &["/end"]).await.image_id;
        for another in [other, image] {
            let error = corner.docker.create(&another).await.unwrap_err();
            assert!(matches!(error, BackendError::Conflict(_)), "{error:?}");
        }
    });
}

#[test]
fn what_is_missing_is_named() {
    on_docker(|corner| async move {
        let good = corner.blueprint("exit 0").await;
        let mut image = good.clone();
        image.image_id = format!("sha256:{}", "0".repeat(64));
        let error = corner.docker.create(&image).await.unwrap_err();
        assert!(matches!(&error, BackendError::NotFound(what) if what.contains("sha256:00")), "{error:?}");

        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing");
        let mut bind = good.clone();
        bind.binds.push(Bind { host: missing.clone(), inside: "/in".into(), writable: false });
        let error = corner.docker.create(&bind).await.unwrap_err();
        assert!(matches!(&error, BackendError::Refused(what) if what.contains("missing")), "{error:?}");
        assert!(!missing.exists());

        let mut runtime = good.clone();
        runtime.runtime = "nonesuch".into();
        let error = corner.docker.create(&runtime).await.unwrap_err();
        assert!(matches!(&error, BackendError::Refused(what) if what.contains("nonesuch")), "{error:?}");

        if !corner.docker.facts().await.unwrap().limits_disk {
            let mut disk = good.clone();
            disk.resources.disk_bytes = 1 << 30;
            let error = corner.docker.create(&disk).await.unwrap_err();
            assert!(matches!(error, BackendError::Refused(_)), "{error:?}");
        }
        assert!(corner.docker.find(&corner.installation).await.unwrap().is_empty());
    });
}

#[test]
fn an_installation_finds_its_own_and_no_others() {
    on_docker(|corner| async move {
        let mut expected: Vec<(String, ContainerId)> = Vec::new();
        for running in [false, true] {
            let blueprint = corner.blueprint("exec sleep 600").await;
            let id = corner.docker.create(&blueprint).await.unwrap();
            if running {
                corner.docker.start(&id).await.unwrap();
            }
            expected.push((id, blueprint.container));
        }
        let found = corner.docker.find(&corner.installation).await.unwrap();
        let mut found: Vec<(String, ContainerId)> =
            found.into_iter().map(|found| (found.id, found.container)).collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
        assert!(corner.docker.find("test").await.unwrap().is_empty());
    });
}

#[test]
fn consumption_is_sane_and_quick() {
    on_docker(|corner| async move {
        let command = "x=$(head -c 8000000 /dev/zero | tr '\\0' x); i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; \
                       exec sleep 600";
        let id = corner.run(&corner.blueprint(command).await).await.unwrap();
        let read = eventually(|| async {
            let read = corner.docker.consumption(&id).await.unwrap();
            (read.cpu_time > Duration::from_millis(50) && read.memory_peak_bytes >= 8_000_000).then_some(read)
        })
        .await;
        assert!(read.memory_bytes > 0 && read.memory_bytes <= 64 << 20, "{read:?}");
        assert_eq!((read.memory_limit_bytes, read.pids_limit), (64 << 20, 64), "{read:?}");
        assert!((1..10).contains(&read.pids), "{read:?}");
        assert_eq!((read.oom_kills, read.network_sent_bytes), (0, 0), "{read:?}");
        if corner.docker.facts().await.unwrap().shares_files {
            let began = Instant::now();
            for _ in 0..10 {
                corner.docker.consumption(&id).await.unwrap();
            }
            assert!(began.elapsed() < Duration::from_millis(500), "{:?} for ten", began.elapsed());
        }
        corner.docker.kill(&id).await.unwrap();
        let error = corner.docker.consumption(&id).await.unwrap_err();
        assert!(matches!(error, BackendError::Conflict(_)), "{error:?}");
    });
}
