//! The rules a configuration must satisfy beyond the form of each value.

use super::forms::size;
use super::limits::LimitSet;
use super::problem::Problem;
use super::sections::{Config, SMALLEST_MESSAGE};
use crate::container::docker::Address;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const HOUR: Duration = Duration::from_secs(3600);

/// Shortest token: 32 characters hold at least 128 bits in any usual alphabet.
const SHORTEST_TOKEN: usize = 32;
/// Longest token, so that it fits the header of a request.
const LONGEST_TOKEN: usize = 4096;
/// Longest path of a Unix socket that `sockaddr_un` can hold.
const LONGEST_SOCKET_PATH: usize = 107;

impl Config {
    /// All problems, in the order of the keys; empty when a server can start from this configuration.
    pub fn validate(&self) -> Vec<Problem> {
        let mut rules = Rules { problems: Vec::new() };
        rules.server(self);
        rules.auth(self);
        rules.directories(self);
        rules.engine(self);
        rules.limits("default", &self.limits.default);
        rules.limits("cap", &self.limits.cap);
        rules.default_below_cap(&self.limits.default, &self.limits.cap);
        rules.execution(self);
        rules.sessions(self);
        rules.containers(self);
        rules.retention(self);
        rules.log(self);
        rules.problems
    }
}

struct Rules {
    problems: Vec<Problem>,
}

impl Rules {
    fn refuse(&mut self, key: impl Into<String>, text: impl Into<String>) {
        self.problems.push(Problem::new(key, text));
    }

    fn size(&mut self, key: &str, value: u64, least: u64, most: u64) {
        if !(least..=most).contains(&value) {
            let text = format!("found {}, expected {} to {}", size::show(value), size::show(least), size::show(most));
            self.refuse(key, text);
        }
    }

    fn count(&mut self, key: &str, value: u64, least: u64, most: u64) {
        if !(least..=most).contains(&value) {
            self.refuse(key, format!("found {value}, expected {least} to {most}"));
        }
    }

    fn duration(&mut self, key: &str, value: Duration, least: Duration, most: Duration) {
        if !(least..=most).contains(&value) {
            let show = |span| humantime::format_duration(span).to_string();
            self.refuse(key, format!("found {}, expected {} to {}", show(value), show(least), show(most)));
        }
    }

    fn directory(&mut self, key: &str, path: &Path) {
        if path.as_os_str().is_empty() {
            self.refuse(key, "found an empty path, expected a directory such as \"./data\"");
        }
    }

    fn server(&mut self, config: &Config) {
        let server = &config.server;
        if let Some(socket) = &server.socket
            && socket.as_os_str().len() > LONGEST_SOCKET_PATH
        {
            self.refuse(
                "server.socket",
                format!(
                    "found a path of {} bytes, expected at most {LONGEST_SOCKET_PATH}: the system's bound for sockets",
                    socket.as_os_str().len()
                ),
            );
        }
        self.size("server.max_message", server.max_message, SMALLEST_MESSAGE, GIB);
        self.count("server.max_connections", server.max_connections.into(), 1, 1_000_000);
        self.duration("server.drain_timeout", server.drain_timeout, Duration::ZERO, HOUR);
        if config.http.enabled && config.http.address == server.address && server.address.port() != 0 {
            self.refuse(
                "http.address",
                format!("found {}, which is server.address; expected another port", server.address),
            );
        }
    }

    fn auth(&mut self, config: &Config) {
        let Some(token) = &config.auth.token else {
            if !is_loopback(config.server.address) {
                self.refuse(
                    "server.address",
                    format!(
                        "found {} without auth.token: anybody who reaches it could run code; set auth.token (`casemate init` makes one), or listen on loopback, such as 127.0.0.1:9800",
                        config.server.address
                    ),
                );
            }
            return;
        };
        // The token itself is never shown, so only its length and its alphabet are named.
        let token = token.expose();
        if !(SHORTEST_TOKEN..=LONGEST_TOKEN).contains(&token.len()) {
            self.refuse(
                "auth.token",
                format!(
                    "found {} characters, expected {SHORTEST_TOKEN} to {LONGEST_TOKEN}; `casemate init` makes a good one",
                    token.chars().count()
                ),
            );
        } else if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            self.refuse(
                "auth.token",
                "found characters that a header cannot carry, expected printable ASCII without spaces",
            );
        }
    }

    fn directories(&mut self, config: &Config) {
        self.directory("tools.directory", &config.tools.directory);
        self.directory("store.directory", &config.store.directory);
    }

    fn engine(&mut self, config: &Config) {
        let engine = &config.engine;
        self.size("engine.max_module", engine.max_module, KIB, GIB);
        self.duration("engine.compile_timeout", engine.compile_timeout, Duration::from_secs(1), HOUR);
        self.size("engine.compile_memory", engine.compile_memory, 256 * MIB, 256 * GIB);
        self.count("interpreters.idle_memories", config.interpreters.idle_memories as u64, 0, 4096);
        self.count("engine.compile_workers", engine.compile_workers.into(), 1, 64);
        for root in &engine.directory_roots {
            if !root.is_absolute() {
                self.refuse(
                    "engine.directory_roots",
                    format!("found {:?}, expected absolute paths: what tools may see must not depend on where the server starts", root.display().to_string()),
                );
            }
        }
    }

    fn limits(&mut self, set: &str, limits: &LimitSet) {
        let key = |name: &str| format!("limits.{set}.{name}");
        self.duration(&key("wall_time"), limits.wall_time, Duration::from_millis(1), 7 * 24 * HOUR);
        // One page of WASM memory, and all that 32 bits can address.
        self.size(&key("memory"), limits.memory, 64 * KIB, 4 * GIB);
        self.count(&key("table_elements"), limits.table_elements, 1, 10_000_000);
        self.size(&key("stack"), limits.stack, 64 * KIB, 2 * MIB);
        self.size(&key("output"), limits.output, 4 * KIB, GIB);
        self.count(&key("host_calls"), limits.host_calls, 0, 1_000_000_000);
        // With the output it goes into one record, which the database bounds.
        self.size(&key("scratch"), limits.scratch, 0, 512 * MIB);
        self.count(&key("child_executions"), limits.child_executions, 0, 1_000_000);
        self.count(&key("child_depth"), limits.child_depth.into(), 0, 64);
    }

    fn default_below_cap(&mut self, default: &LimitSet, cap: &LimitSet) {
        let mut check = |name: &str, above: bool, default: String, cap: String| {
            if above {
                self.refuse(
                    format!("limits.default.{name}"),
                    format!(
                        "found {default}, which is above limits.cap.{name} = {cap}; lower the one or raise the other"
                    ),
                );
            }
        };
        let span = |span| humantime::format_duration(span).to_string();
        check("wall_time", default.wall_time > cap.wall_time, span(default.wall_time), span(cap.wall_time));
        check("memory", default.memory > cap.memory, size::show(default.memory), size::show(cap.memory));
        check(
            "table_elements",
            default.table_elements > cap.table_elements,
            default.table_elements.to_string(),
            cap.table_elements.to_string(),
        );
        check("stack", default.stack > cap.stack, size::show(default.stack), size::show(cap.stack));
        check("output", default.output > cap.output, size::show(default.output), size::show(cap.output));
        check(
            "host_calls",
            default.host_calls > cap.host_calls,
            default.host_calls.to_string(),
            cap.host_calls.to_string(),
        );
        if let (Some(default), Some(cap)) = (default.fuel, cap.fuel) {
            check("fuel", default > cap, default.to_string(), cap.to_string());
        }
        check("scratch", default.scratch > cap.scratch, size::show(default.scratch), size::show(cap.scratch));
        let (children, most) = (default.child_executions, cap.child_executions);
        check("child_executions", children > most, children.to_string(), most.to_string());
        let (depth, most) = (default.child_depth, cap.child_depth);
        check("child_depth", depth > most, depth.to_string(), most.to_string());
    }

    fn execution(&mut self, config: &Config) {
        let execution = &config.execution;
        // Every slot reserves address space for its memory; the engine takes no more of them.
        self.count("execution.max_running", execution.max_running.into(), 1, 4096);
        self.count("execution.max_running_per_tool", execution.max_running_per_tool.into(), 1, 4096);
        self.count("execution.max_queued", execution.max_queued as u64, 0, 1_000_000);
        self.size("execution.max_parameters", execution.max_parameters, KIB, GIB);
        if execution.max_parameters > config.server.max_message {
            self.refuse(
                "execution.max_parameters",
                format!(
                    "found {}, which no message can carry: server.max_message is {}; lower the one or raise the other",
                    size::show(execution.max_parameters),
                    size::show(config.server.max_message)
                ),
            );
        }
    }

    fn sessions(&mut self, config: &Config) {
        let sessions = &config.sessions;
        self.count("sessions.max_sessions", sessions.max_sessions, 0, 1_000_000);
        self.count("sessions.max_per_principal", sessions.max_per_principal, 0, 1_000_000);
        self.size("sessions.max_memory", sessions.max_memory, MIB, 1024 * GIB);
        self.size("sessions.max_checkpoints", sessions.max_checkpoints, 0, 1024 * 1024 * GIB);
        self.size("sessions.max_checkpoint", sessions.max_checkpoint, MIB, 64 * GIB);
        self.size("sessions.max_snapshots", sessions.max_snapshots, 0, 1024 * 1024 * GIB);
        self.count("sessions.max_forks", sessions.max_forks.into(), 1, 1000);
        self.duration("sessions.checkpoint_idle", sessions.checkpoint_idle, Duration::from_secs(1), 24 * HOUR);
        self.duration("sessions.suspend_idle", sessions.suspend_idle, Duration::from_secs(1), 30 * 24 * HOUR);
        self.duration("sessions.keep_closed", sessions.keep_closed, Duration::ZERO, 30 * 24 * HOUR);
        for (name, set) in [("default", &sessions.default), ("cap", &sessions.cap)] {
            let key = |limit: &str| format!("sessions.{name}.{limit}");
            let second = Duration::from_secs(1);
            self.duration(&key("time_to_live"), set.time_to_live, second, 3650 * 24 * HOUR);
            self.duration(&key("idle_timeout"), set.idle_timeout, second, 3650 * 24 * HOUR);
            self.size(&key("memory"), set.memory, MIB, 4 * GIB);
            self.size(&key("scratch"), set.scratch, 0, 4 * GIB);
            self.count(&key("queue_length"), set.queue_length.into(), 0, 100_000);
            self.duration(&key("turn_wall_time"), set.turn_wall_time, Duration::from_millis(1), 7 * 24 * HOUR);
        }
        for name in sessions.above_caps() {
            let text = format!("is above sessions.cap.{name}; lower the one or raise the other");
            self.refuse(format!("sessions.default.{name}"), text);
        }
    }

    fn containers(&mut self, config: &Config) {
        let containers = &config.containers;
        if let Err(problem) = Address::parse(&containers.host) {
            self.refuse("containers.host", format!("found {problem}"));
        }
        let tls = &containers.tls;
        if tls.certificate.is_some() != tls.key.is_some() {
            self.refuse(
                "containers.tls.key",
                "found a certificate without its key, or the other way round; set both or none",
            );
        }
        if tls.certificate.is_some() && tls.ca.is_none() {
            self.refuse(
                "containers.tls.ca",
                "found nothing, expected the authorities that Docker's certificate may be from",
            );
        }
        self.count("containers.max_containers", containers.max_containers.into(), 0, 100_000);
        self.count("containers.max_per_principal", containers.max_per_principal.into(), 0, 100_000);
        self.duration("containers.keep_ended", containers.keep_ended, Duration::ZERO, 30 * 24 * HOUR);
        self.size("containers.journal", containers.journal, 64 * KIB, 64 * MIB);
        self.count("containers.archive_entries", containers.archive_entries, 1, 1_000_000);
        self.size("containers.archive_bytes", containers.archive_bytes, MIB, 1024 * GIB);
        self.duration("containers.start_timeout", containers.start_timeout, Duration::from_millis(100), HOUR);
        self.duration("containers.process_time", containers.process_time, Duration::from_millis(1), 3650 * 24 * HOUR);
        self.duration(
            "containers.max_process_time",
            containers.max_process_time,
            containers.process_time,
            3650 * 24 * HOUR,
        );
        self.duration("containers.max_retention", containers.max_retention, containers.retention, 365 * 24 * HOUR);
        self.duration("containers.stop_grace", containers.stop_grace, Duration::ZERO, Duration::from_secs(600));
        self.size("containers.max_workspace", containers.max_workspace, containers.workspace, 1024 * GIB);
        for (name, default, most) in [
            ("time_to_live", containers.time_to_live, containers.max_time_to_live),
            ("idle_timeout", containers.idle_timeout, containers.max_idle_timeout),
        ] {
            if !most.is_zero() && default > most {
                self.refuse(
                    format!("containers.{name}"),
                    format!("is above containers.max_{name}; lower the one or raise the other"),
                );
            }
        }
        for root in &containers.mount_roots {
            if !root.is_absolute() {
                self.refuse(
                    "containers.mount_roots",
                    format!("found {:?}, expected an absolute path", root.display().to_string()),
                );
            }
        }
        for (name, set) in [("default", &containers.default), ("cap", &containers.cap)] {
            let key = |resource: &str| format!("containers.{name}.{resource}");
            self.size(&key("memory"), set.memory, 8 * MIB, 1024 * GIB);
            self.count(&key("cpu_millis"), set.cpu_millis.into(), 10, 1_000_000);
            self.count(&key("cpu_weight"), set.cpu_weight.into(), 1, 10_000);
            self.count(&key("pids"), set.pids.into(), 16, 4_000_000);
            self.count(&key("open_files"), set.open_files, 64, 1 << 30);
            self.size(&key("shared_memory"), set.shared_memory, 1, 1024 * GIB);
            self.size(&key("log"), set.log, 4 * KIB, GIB);
            self.count(&key("executions"), set.executions.into(), 1, 100_000);
        }
        for name in containers.default.above(&containers.cap) {
            let text = format!("is above containers.cap.{name}; lower the one or raise the other");
            self.refuse(format!("containers.default.{name}"), text);
        }
        for (key, text) in containers.malformed() {
            self.refuse(key, text);
        }
        for (name, template) in &containers.templates {
            for (key, text) in template.malformed() {
                self.refuse(format!("containers.templates.{name}.{key}"), text);
            }
        }
    }

    fn retention(&mut self, config: &Config) {
        let retention = &config.retention;
        self.count("retention.max_count", retention.max_count, 1, 1_000_000_000);
        self.duration("retention.max_age", retention.max_age, Duration::from_secs(1), 3650 * 24 * HOUR);
        self.size("retention.max_bytes", retention.max_bytes, MIB, 1024 * 1024 * GIB);
        self.size("retention.memory", retention.memory, 0, 1024 * GIB);
    }

    fn log(&mut self, config: &Config) {
        if let Err(error) = tracing_subscriber::EnvFilter::builder().parse(&config.log.level) {
            self.refuse(
                "log.level",
                format!(
                    "found {:?} ({error}), expected error, warn, info, debug, trace or off, or directives such as \"info,casemate=debug\"",
                    config.log.level
                ),
            );
        }
    }
}

/// Whether only this machine reaches the address.
fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn keys(config: &Config) -> Vec<String> {
        config.validate().into_iter().map(|problem| problem.key).collect()
    }

    #[test]
    fn the_defaults_are_good() {
        assert_eq!(Config::default().validate(), []);
    }

    #[test]
    fn without_a_token_only_loopback_will_do() {
        let mut config = Config::default();
        for (address, good) in [
            ("127.0.0.1:1", true),
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("192.168.0.1:1", false),
            ("[::ffff:10.0.0.1]:1", false),
        ] {
            config.server.address = address.parse().unwrap();
            assert_eq!(config.validate().is_empty(), good, "{address}");
        }
        config.auth.token = Some(Secret::new("x".repeat(32)));
        assert_eq!(config.validate(), []);
    }

    #[test]
    fn tokens_are_long_and_printable_and_never_shown() {
        let mut config = Config::default();
        for bad in [String::new(), "x".repeat(31), "x".repeat(4097), format!("{}\n", "s".repeat(40)), "ö".repeat(20)] {
            config.auth.token = Some(Secret::new(bad.clone()));
            let problems = config.validate();
            assert_eq!(problems.len(), 1, "{bad}");
            assert_eq!(problems[0].key, "auth.token");
            assert!(bad.is_empty() || !problems[0].text.contains(&bad));
        }
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let mut config = Config::default();
        config.execution.max_running = 0;
        config.server.max_message = MIB;
        config.limits.default.memory = config.limits.cap.memory + 1;
        config.limits.default.fuel = Some(10);
        config.limits.cap.fuel = Some(9);
        config.log.level = "info,,=nonsense=".into();
        config.http.address = config.server.address;
        config.engine.directory_roots = vec!["relative".into()];
        let expected = [
            "http.address",
            "engine.directory_roots",
            "limits.default.memory",
            "limits.default.fuel",
            "execution.max_running",
            "execution.max_parameters",
            "log.level",
        ];
        assert_eq!(keys(&config), expected);
    }
}
