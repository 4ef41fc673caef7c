//! Which processes are below another.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::keeper;

/// How often one call looks for processes that were started while it looked.
const PASSES: usize = 4;

/// A process in the kernel's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its number.
    pub pid: i32,
    /// Its parent.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// Whether it only waits to be reaped.
    pub over: bool,
}

/// How long a list is good for where a second look follows anyhow.
const AGE: Duration = Duration::from_millis(5);

/// Each process with its children.
type List = HashMap<i32, Vec<Member>>;

thread_local! {
    /// The last list, when it was made, and for how long it is good.
    static LAST: RefCell<Option<(Rc<List>, Instant, Duration)>> = const { RefCell::new(None) };
}

/// All that are below a process, itself excluded.
pub fn below(root: i32) -> Vec<Member> {
    of(root, &list(false))
}

/// Sends a signal to all that are below a process and are not over.
pub fn signal(root: i32, signal: i32) {
    for member in below(root).iter().filter(|member| !member.over) {
        let _ = keeper::kill(member.pid, signal);
    }
}

/// Kills all that are below a process. Some may be left, or be there anew: it is to be called again until the keeper
/// is gone.
pub fn kill(root: i32) {
    let guest = std::process::id().cast_signed();
    let own = rustix::process::getpgrp().as_raw_nonzero().get();
    let (mut pids, mut groups) = (HashSet::new(), HashSet::new());
    for pass in 0..PASSES {
        let before = pids.len();
        for member in of(root, &list(pass == 0)).iter().filter(|member| !member.over) {
            // The kernel signals a group at once, so that one that forks all the time does not get away. A group
            // never reaches beyond its session, and all sessions below a keeper were made there. Only a process that has
            // none of its own yet is still in the guest's, as are the keepers.
            let foreign = member.group > 1 && member.group != own && root != guest;
            if foreign && groups.insert(member.group) {
                let _ = keeper::kill(-member.group, libc::SIGKILL);
            }
            if pids.insert(member.pid) {
                let _ = keeper::kill(member.pid, libc::SIGKILL);
            }
        }
        if pids.len() == before {
            return;
        }
    }
}

fn of(root: i32, list: &List) -> Vec<Member> {
    let mut found = list.get(&root).cloned().unwrap_or_default();
    // A list is not made at once: a number that was used again meanwhile could close a circle.
    let mut seen: HashSet<i32> = found.iter().map(|member| member.pid).chain([root]).collect();
    let mut next = 0;
    while let Some(member) = found.get(next) {
        let children = list.get(&member.pid).map(Vec::as_slice).unwrap_or_default();
        found.extend(children.iter().filter(|child| seen.insert(child.pid)));
        next += 1;
    }
    found
}

/// All processes; if an older list will do, one that many share which are killed at the same time.
fn list(older: bool) -> Rc<List> {
    let now = Instant::now();
    let last = LAST.with_borrow(|last| {
        let (list, at, good) = last.as_ref().filter(|_| older)?;
        (now.duration_since(*at) < *good).then(|| Rc::clone(list))
    });
    if let Some(list) = last {
        return list;
    }
    let mut list = List::new();
    for member in all() {
        list.entry(member.parent).or_default().push(member);
    }
    let list = Rc::new(list);
    let cost = now.elapsed();
    // With many processes a list takes long: it is made a quarter of the time at most.
    LAST.set(Some((Rc::clone(&list), Instant::now(), AGE.max(3 * cost))));
    list
}

/// Forgets the last list, which may be large.
pub fn forget() {
    LAST.set(None);
}

fn all() -> Vec<Member> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name());
    let pids = names.filter_map(|name| name.to_str()?.parse().ok());
    pids.filter_map(|pid: i32| parse(pid, &fs::read(format!("/proc/{pid}/stat")).ok()?)).collect()
}

/// Reads `stat`: the name is in parentheses, and may have any byte in it.
fn parse(pid: i32, stat: &[u8]) -> Option<Member> {
    let behind = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let mut fields = std::str::from_utf8(stat.get(behind..)?).ok()?.split_ascii_whitespace();
    let state = fields.next()?;
    let (parent, group) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(Member { pid, parent, group, over: matches!(state, "Z" | "X") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_forge_a_parent() {
        let found = parse(5, b"5 (a) Z 1 1 (b\xff) S 4 3 2 0 -1").unwrap();
        assert_eq!(found, Member { pid: 5, parent: 4, group: 3, over: false });
        assert!(parse(5, b"5 (a) Z 4 3").unwrap().over);
        assert_eq!(parse(5, b"5 (a"), None);
    }
}
