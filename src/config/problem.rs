//! What is wrong with a configuration, said so that it can be mended.

use std::fmt;

/// One problem of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Path of the key, such as `server.address`; empty for a problem of a whole layer.
    pub key: String,
    /// Where the value came from, such as `file casemate.toml` or `flag --address`; `None` for a default.
    pub origin: Option<String>,
    /// What was found, and what is allowed instead.
    pub text: String,
}

impl Problem {
    /// A problem of a key, from a place that is not known yet.
    pub fn new(key: impl Into<String>, text: impl Into<String>) -> Self {
        Problem { key: key.into(), origin: None, text: text.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.key.is_empty(), &self.origin) {
            (true, None) => f.write_str(&self.text),
            (true, Some(origin)) => write!(f, "{origin}: {}", self.text),
            (false, None) => write!(f, "{}: {}", self.key, self.text),
            (false, Some(origin)) => write!(f, "{} ({origin}): {}", self.key, self.text),
        }
    }
}

/// All that is wrong with a configuration; at least one problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The problems, in the order of the keys.
    pub problems: Vec<Problem>,
}

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> Self {
        ConfigError { problems: vec![problem] }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
