//! Nothing of one borrower is found by the next, however hard the first one tries.

use super::{asks, container, pool};
use crate::kit::{House, docker, shell};
use casemate::proto::v1;

/// Everything that a process can leave behind, all of it with the same word.
const POISON: &str = "
for place in /workspace /tmp /run /dev/shm /usr/bin /etc / /home /root /var /proc/self /.casemate; do
    echo poison > $place/poison 2>/dev/null && echo wrote $place
done
ln -s /tmp/poison /workspace/link; mkfifo /tmp/pipe; mkdir -p /tmp/.hidden/deep; echo poison > /tmp/.hidden/deep/x
chmod 0 /tmp/poison; umask 0
echo poison > /proc/sys/kernel/hostname 2>/dev/null && echo wrote hostname
hostname poison 2>/dev/null && echo renamed
mount -t tmpfs poison /workspace 2>/dev/null && echo mounted
export POISON=poison
(setsid sleep 77777 poison & ) ; nohup sleep 77777 >/dev/null 2>&1 &
echo done";

/// Looks for it.
const SEARCH: &str = "
find / -xdev \\( -path /proc -o -path /sys \\) -prune -o \\( -name '*poison*' -o -name pipe -o -name .hidden \\) -print 2>/dev/null
find /workspace /tmp /run /dev/shm -mindepth 1 2>/dev/null
env | grep -i poison
hostname | grep poison
grep poison /proc/mounts
for process in /proc/[0-9]*; do tr '\\0' ' ' < $process/cmdline 2>/dev/null | grep '7777[7]'; done
touch /usr/poison 2>/dev/null && echo /usr can be written
echo searched";

#[tokio::test]
async fn nothing_of_one_borrower_is_found_by_the_next() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    house.create(v1::Pool { max_size: 1, ..pool("clean", 1) }).await.unwrap();
    for round in 0..3 {
        let lease = house.lease(asks("clean")).await.unwrap();
        let id = &container(&lease).id;
        assert_eq!(house.run(id, SEARCH).await.text(), "searched\n", "borrower {round}");
        let poisoned = house.run(id, POISON).await.text();
        let wrote: Vec<&str> = poisoned.lines().collect();
        assert_eq!(wrote, ["wrote /workspace", "wrote /tmp", "wrote /run", "wrote /dev/shm", "done"], "{round}");
        // One that runs on, and one that begins as it ends.
        house.start(id, shell("while :; do echo poison > /workspace/poison$$; done")).await.unwrap();
        house.release(&lease.id).await.unwrap();
        let refused = house.start(id, shell("true")).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{refused}");
        house.ended(id).await;
    }
}
