//! Log lines, to standard error.

use crate::config::{LogFormat, LogSection};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

/// Starts logging for the rest of the process. Fails when `log.level` cannot be parsed, or when the
/// process logs already.
pub fn start(log: &LogSection) -> Result<(), String> {
    let filter =
        EnvFilter::builder().parse(&log.level).map_err(|error| format!("log.level {:?}: {error}", log.level))?;
    let terminal = std::io::stderr().is_terminal();
    let json = match log.format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let lines = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = if json {
        // Fields beside the message, not nested: what log collectors expect to index.
        lines.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
    } else {
        lines.with_ansi(terminal).with_target(false).try_init()
    };
    started.map_err(|error| format!("logging was started before: {error}"))
}
