//! Whether the kernel killed something of ours for want of memory.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

/// Files of the memory controller that count such kills: version 2, then version 1.
const FILES: [&str; 2] = ["/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"];

/// Processes that the kernel killed so far because the container had no memory left; 0 if it does not say. Asked at each
/// start, so the file stays open.
pub fn kills() -> u64 {
    static OPEN: OnceLock<Option<File>> = OnceLock::new();
    let open = || FILES.iter().filter_map(|path| File::open(path).ok()).find(|file| read(file).is_some());
    OPEN.get_or_init(open).as_ref().and_then(read).unwrap_or_default()
}

fn read(file: &File) -> Option<u64> {
    let mut text = [0; 512];
    let length = file.read_at(&mut text, 0).ok()?;
    count(std::str::from_utf8(text.get(..length)?).ok()?)
}

fn count(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_read() {
        assert_eq!(count("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), Some(3));
        assert_eq!(count("low 0\nhigh 0\nmax 5\noom 2\noom_kill 1\noom_group_kill 0\n"), Some(1));
        assert_eq!(count("oom_kill x"), None);
    }
}
