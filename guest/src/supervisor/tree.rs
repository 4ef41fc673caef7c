//! Which processes are below another.

use std::collections::HashMap;
use std::fs;

use super::keeper;

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

/// All that are below a process, itself excluded. Those whose parent is listed later are found too.
pub fn below(root: i32) -> Vec<Member> {
    let mut children: HashMap<i32, Vec<Member>> = HashMap::new();
    for member in all() {
        children.entry(member.parent).or_default().push(member);
    }
    let mut found = children.remove(&root).unwrap_or_default();
    let mut next = 0;
    while let Some(member) = found.get(next) {
        found.extend(children.remove(&member.pid).unwrap_or_default());
        next += 1;
    }
    found
}

/// Sends a signal to all that are below a process and are not over. Returns how many.
pub fn signal(root: i32, signal: i32) -> usize {
    let alive = below(root).into_iter().filter(|member| !member.over);
    alive.filter(|member| keeper::kill(member.pid, signal).is_ok()).count()
}

/// Kills all that are below a process, and what they start meanwhile. Returns whether any may be left: then it is to
/// be called again after a while.
pub fn kill(root: i32) -> bool {
    // Each pass finds what was forked during the one before; one that forks faster than this meets the next call.
    (0..8).all(|_| signal(root, libc::SIGKILL) > 0)
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
