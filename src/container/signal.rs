//! Names of signals, as Linux numbers them on the machines that containers run on.

/// The one that nobody survives.
pub const KILL: i32 = 9;
/// The one that asks.
pub const TERM: i32 = 15;

const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

/// First and last signal for real-time use, which have numbers for names.
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

/// The number of `SIGNAME`, `NAME`, `SIGRTMIN+N` or a number.
pub fn number(text: &str) -> Option<i32> {
    let upper = text.trim().to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let known = |name: &str| NAMES.iter().position(|known| *known == name).and_then(|at| i32::try_from(at + 1).ok());
    let real_time = |name: &str| {
        let after: i32 = name.strip_prefix("RTMIN+")?.parse().ok()?;
        REAL_TIME.start().checked_add(after)
    };
    let valid = |number: &i32| (1..=31).contains(number) || REAL_TIME.contains(number);
    known(name).or_else(|| real_time(name)).or_else(|| upper.parse().ok()).filter(valid)
}

/// The name of a number, such as `SIGKILL`.
pub fn name(number: i32) -> String {
    let at = usize::try_from(number - 1).ok();
    match at.and_then(|at| NAMES.get(at)) {
        Some(name) => format!("SIG{name}"),
        None if REAL_TIME.contains(&number) => format!("SIGRTMIN+{}", number - REAL_TIME.start()),
        None => format!("signal {number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_two_ways_to_say_it() {
        for (text, expected) in
            [("SIGKILL", 9), ("term", 15), ("2", 2), ("SIGSYS", 31), ("SIGRTMIN+1", 35), ("RTMIN+30", 64), ("34", 34)]
        {
            assert_eq!(number(text), Some(expected), "{text}");
            assert_eq!(number(&name(expected)), Some(expected), "{text}");
        }
        for text in ["", "0", "32", "65", "-1", "SIG", "KILLL", "RTMIN+31", "RTMIN+-1", "99999999999"] {
            assert_eq!(number(text), None, "{text}");
        }
    }
}
