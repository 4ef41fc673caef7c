//! Figures of this process, read from /proc when somebody asks.

use std::fs;

/// What the process uses right now.
pub(super) struct ProcessFigures {
    pub(super) resident_bytes: u64,
    pub(super) virtual_bytes: u64,
    pub(super) cpu_seconds: f64,
    pub(super) threads: u64,
    pub(super) open_files: u64,
}

/// Reads the figures; `None` where /proc is missing or hidden, which must not fail a scrape.
pub(super) fn read() -> Option<ProcessFigures> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (cpu_ticks, threads, virtual_bytes, resident_pages) = parse_stat(&stat)?;
    Some(ProcessFigures {
        resident_bytes: resident_pages * rustix::param::page_size() as u64,
        virtual_bytes,
        cpu_seconds: cpu_ticks as f64 / rustix::param::clock_ticks_per_second() as f64,
        threads,
        open_files: fs::read_dir("/proc/self/fd").ok()?.count() as u64,
    })
}

/// User and system ticks together, threads, virtual bytes and resident pages of a `/proc/PID/stat` line.
fn parse_stat(line: &str) -> Option<(u64, u64, u64, u64)> {
    // The name in parentheses may hold spaces and parentheses of its own.
    let fields: Vec<&str> = line.get(line.rfind(')')? + 1..)?.split_ascii_whitespace().collect();
    // The first of these is field 3 of proc(5).
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some((field(14)? + field(15)?, field(20)?, field(23)?, field(24)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let line = "7 (a) (b c) S 1 2 3 4 5 6 7 8 9 10 100 20 13 14 15 16 8 18 19 4096 5 99";
        assert_eq!(parse_stat(line), Some((120, 8, 4096, 5)));
    }

    #[test]
    fn this_process_uses_something() {
        let figures = read().unwrap();
        assert!(figures.resident_bytes > 0 && figures.virtual_bytes >= figures.resident_bytes);
        assert!(figures.threads >= 1 && figures.open_files >= 3);
    }
}
