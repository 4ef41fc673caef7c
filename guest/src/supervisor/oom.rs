//! Whether the kernel killed something of ours for want of memory.

/// Files of the memory controller that count such kills: version 2, then version 1.
const FILES: [&str; 2] = ["/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"];

/// Processes that the kernel killed so far because the container had no memory left; 0 if it does not say.
pub fn kills() -> u64 {
    FILES.iter().find_map(|file| count(&std::fs::read_to_string(file).ok()?)).unwrap_or_default()
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
