//! The layers of the configuration as an operator meets them.

use casemate::config::{Config, ConfigError, Environment, Flag, Loaded, LogFormat, Sources, load};
use std::path::{Path, PathBuf};
use std::time::Duration;

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new(file: &str) -> Place {
        let directory = tempfile::tempdir().unwrap();
        if !file.is_empty() {
            std::fs::write(directory.path().join("casemate.toml"), file).unwrap();
        }
        Place { directory }
    }

    fn sources(&self, variables: &[(&str, &str)], flags: &[(&'static str, &'static str, &str)]) -> Sources {
        let variables = variables.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        let flags = flags.iter().map(|(name, key, value)| Flag { name, key, value: value.to_string() }).collect();
        Sources { file: None, environment: Environment::of(variables, self.directory.path()), flags }
    }

    fn load(
        &self,
        variables: &[(&str, &str)],
        flags: &[(&'static str, &'static str, &str)],
    ) -> Result<Loaded, ConfigError> {
        load(&self.sources(variables, flags))
    }

    /// Loads and expects problems, one `key origin` a line.
    fn problems(
        &self,
        variables: &[(&str, &str)],
        flags: &[(&'static str, &'static str, &str)],
    ) -> Vec<(String, String, String)> {
        let error = self.load(variables, flags).expect_err("the configuration should be refused");
        let origin = |origin: Option<String>| {
            origin.unwrap_or_default().replace(&*self.directory.path().to_string_lossy(), "DIR")
        };
        error.problems.into_iter().map(|problem| (problem.key, origin(problem.origin), problem.text)).collect()
    }
}

#[test]
fn nothing_at_all_is_the_defaults() {
    let loaded = Place::new("").load(&[], &[]).unwrap();
    assert_eq!(loaded.config, Config::default());
    assert_eq!(loaded.file, None);
    assert_eq!(loaded.warnings, [""; 0]);
}

#[test]
fn flags_win_over_the_environment_over_the_file_over_the_defaults() {
    let place = Place::new(
        "[server]\naddress = '127.0.0.1:1'\nmax_message = '30MiB'\ndrain_timeout = '1s'\n[http]\nenabled = false",
    );
    let variables = [("CASEMATE_SERVER__ADDRESS", "127.0.0.1:2"), ("CASEMATE_SERVER__MAX_MESSAGE", "40MiB")];
    let config = place.load(&variables, &[("--address", "server.address", "127.0.0.1:3")]).unwrap().config;
    assert_eq!(config.server.address.port(), 3);
    assert_eq!(config.server.max_message, 40 << 20);
    assert_eq!(config.server.drain_timeout, Duration::from_secs(1));
    assert!(!config.http.enabled);
    assert_eq!(config.http.address, Config::default().http.address);
}

#[test]
fn every_kind_of_value_can_come_from_the_environment() {
    let config = Place::new("")
        .load(
            &[
                ("CASEMATE_HTTP__ENABLED", "false"),
                ("CASEMATE_EXECUTION__MAX_RUNNING", "1_000"),
                ("CASEMATE_LIMITS__DEFAULT__WALL_TIME", "1m 30s"),
                ("CASEMATE_LIMITS__CAP__FUEL", "5000000"),
                ("CASEMATE_LIMITS__DEFAULT__MEMORY", "1048576"),
                ("CASEMATE_ENGINE__DIRECTORY_ROOTS", "/srv/a, /srv/b"),
                ("CASEMATE_ENGINE__PAGEMAP", "off"),
                ("CASEMATE_LOG__FORMAT", "json"),
                // All digits, and yet a text.
                ("CASEMATE_AUTH__TOKEN", "12345678901234567890123456789012"),
                ("CASEMATE_SERVER__SOCKET", "/run/casemate.sock"),
            ],
            &[],
        )
        .unwrap()
        .config;
    assert!(!config.http.enabled);
    assert_eq!(config.execution.max_running, 1000);
    assert_eq!(config.limits.default.wall_time, Duration::from_secs(90));
    assert_eq!(config.limits.policy().caps.fuel, Some(5_000_000));
    assert_eq!(config.limits.default.memory, 1 << 20);
    assert_eq!(config.engine.directory_roots, [PathBuf::from("/srv/a"), PathBuf::from("/srv/b")]);
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.auth.token.unwrap().expose(), "12345678901234567890123456789012");
    assert_eq!(config.server.socket.as_deref(), Some(Path::new("/run/casemate.sock")));
}

#[test]
fn a_later_layer_can_take_back_what_may_be_absent() {
    let place = Place::new("server.socket = '/run/a.sock'\nlimits.default.fuel = 7");
    let variables = [("CASEMATE_SERVER__SOCKET", ""), ("CASEMATE_LIMITS__DEFAULT__FUEL", "0")];
    let config = place.load(&variables, &[]).unwrap().config;
    assert_eq!((config.server.socket, config.limits.default.fuel), (None, None));
}

#[test]
fn variables_of_others_do_not_stop_a_start() {
    let kubernetes = [
        ("CASEMATE_PORT", "tcp://10.0.0.1:9800"),
        ("CASEMATE_PORT_9800_TCP_ADDR", "10.0.0.1"),
        ("CASEMATE_SERVICE_HOST", "10.0.0.1"),
        ("CASEMATE_ADDRESS", "elsewhere:9800"),
        ("CASEMATE_TOKEN", "short"),
        ("OTHER__KEY", "x"),
    ];
    assert_eq!(Place::new("").load(&kubernetes, &[]).unwrap().config, Config::default());
}

#[test]
fn all_problems_come_with_key_origin_and_what_is_allowed() {
    let place = Place::new(
        "[server]\nadress = 'x'\nmax_message = '1KiB'\n[engine]\npagemap = 'sometimes'\n[limits.cap]\nstack = -1\n[nonsense]\na = 1\n",
    );
    let variables = [("CASEMATE_EXECUTION__MAX_RUNING", "1"), ("CASEMATE_EXECUTION__MAX_RUNNING", "many")];
    let mut problems = place.problems(&variables, &[("--http-address", "http.address", "localhost")]);
    problems.sort();
    let told: Vec<_> = problems.iter().map(|(key, origin, _)| (key.as_str(), origin.as_str())).collect();
    let file = "file DIR/casemate.toml";
    let expected = [
        ("engine.pagemap", file),
        ("execution.max_parameters", ""),
        ("execution.max_runing", "environment variable CASEMATE_EXECUTION__MAX_RUNING"),
        ("execution.max_running", "environment variable CASEMATE_EXECUTION__MAX_RUNNING"),
        ("http.address", "flag --http-address"),
        ("limits.cap.stack", file),
        ("nonsense", file),
        ("server.adress", file),
        ("server.max_message", file),
    ];
    assert_eq!(told, expected);
    let text = |key: &str| problems.iter().find(|problem| problem.0 == key).map(|problem| problem.2.clone()).unwrap();
    assert_eq!(text("engine.pagemap"), "found \"sometimes\", expected one of auto, on, off");
    assert!(text("execution.max_running").contains("many"), "{}", text("execution.max_running"));
    assert!(text("execution.max_runing").contains("max_running"));
    assert!(text("limits.cap.stack").contains("a size such as"), "{}", text("limits.cap.stack"));
    assert!(text("nonsense").contains("server, http, auth"));
    assert!(text("http.address").contains("127.0.0.1:9800"));
    assert_eq!(text("server.max_message"), "found 1KiB, expected 64KiB to 1GiB");
}

#[test]
fn a_value_where_a_section_belongs_is_told() {
    let problems = Place::new("server = 5\nlimits.cap = 'much'").problems(&[], &[]);
    let keys: Vec<_> = problems.iter().map(|problem| problem.0.as_str()).collect();
    assert_eq!(keys, ["limits.cap", "server"]);
    assert!(problems.iter().all(|problem| problem.2.contains("expected a table")), "{problems:?}");
}

#[test]
fn a_token_is_never_shown() {
    let secret = "a-token-that-is-far-too-secret-to-be-shown";
    let shown = |text: String| assert!(!text.contains("secret"), "{text}");
    let config = Place::new(&format!("auth.token = '{secret}'")).load(&[], &[]).unwrap().config;
    assert_eq!(config.auth.token.as_ref().unwrap().expose(), secret);
    shown(format!("{config:?}"));
    let toml = toml::to_string(&config).unwrap();
    assert!(toml.contains("********"));
    shown(toml);
    shown(serde_json::to_string(&config).unwrap());
    for broken in [
        format!("auth.token = '{secret}"),
        format!("auth.token = ['{secret}']"),
        format!("auth.token = '{secret} '"),
        format!("auth = '{secret}'"),
        format!("auth.token = {secret}"),
    ] {
        shown(format!("{:?}", Place::new(&broken).load(&[], &[]).unwrap_err()));
    }
}

#[test]
fn an_empty_token_is_refused_not_ignored() {
    let problems = Place::new("").problems(&[("CASEMATE_AUTH__TOKEN", "")], &[]);
    assert_eq!(
        (problems[0].0.as_str(), problems[0].1.as_str()),
        ("auth.token", "environment variable CASEMATE_AUTH__TOKEN")
    );
}

#[test]
fn the_file_is_found_where_it_should_be() {
    let place = Place::new("");
    let path = |name: &str| place.directory.path().join(name);
    let write = |name: &str, port: u16| {
        std::fs::create_dir_all(path(name).parent().unwrap()).unwrap();
        std::fs::write(path(name), format!("server.address = '127.0.0.1:{port}'")).unwrap();
        path(name)
    };
    let home = path("home").display().to_string();
    let xdg = path("xdg").display().to_string();
    let port = |variables: &[(&str, &str)]| place.load(variables, &[]).unwrap().config.server.address.port();
    write("home/.config/casemate/casemate.toml", 1);
    write("xdg/casemate/casemate.toml", 2);
    assert_eq!(port(&[]), 9800);
    assert_eq!(port(&[("HOME", &home)]), 1);
    assert_eq!(port(&[("HOME", &home), ("XDG_CONFIG_HOME", &xdg)]), 2);
    write("casemate.toml", 3);
    assert_eq!(port(&[("HOME", &home), ("XDG_CONFIG_HOME", &xdg)]), 3);
    let named = write("named.toml", 4).display().to_string();
    assert_eq!(port(&[("CASEMATE_CONFIG", &named)]), 4);
    let mut sources = place.sources(&[("CASEMATE_CONFIG", &named)], &[]);
    sources.file = Some(write("flag.toml", 5));
    assert_eq!(load(&sources).unwrap().config.server.address.port(), 5);
    sources.file = Some(path("missing.toml"));
    let error = load(&sources).unwrap_err().to_string();
    assert!(error.contains("missing.toml") && error.contains("--config"), "{error}");
}

#[test]
fn a_broken_file_is_told_with_its_line() {
    let error = Place::new("[server]\naddress = \n").load(&[], &[]).unwrap_err().to_string();
    assert!(error.contains("line 2"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_token_that_others_can_read_is_warned_about() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new("auth.token = '0123456789abcdef0123456789abcdef'");
    let file = place.directory.path().join("casemate.toml");
    let mode = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o644);
    let warnings = place.load(&[], &[]).unwrap().warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("chmod 600"), "{warnings:?}");
    mode(0o600);
    assert!(place.load(&[], &[]).unwrap().warnings.is_empty());
}

#[test]
fn what_is_printed_can_be_read_again() {
    let mut config = Config::default();
    config.limits.default.fuel = Some(12);
    config.server.socket = Some("/run/x.sock".into());
    config.retention.max_bytes = (1 << 30) + 1;
    let text = toml::to_string(&config).unwrap();
    assert_eq!(Place::new(&text).load(&[], &[]).unwrap().config, config);
}

/// The documentation names every key, with its default.
#[test]
fn every_key_is_documented() {
    let page = std::fs::read_to_string("docs/configuration.md").unwrap();
    let mut config = Config::default();
    config.server.socket = Some("x".into());
    config.auth.token = Some(casemate::config::Secret::new("x"));
    config.limits.default.fuel = Some(1);
    config.limits.cap.fuel = Some(1);
    let unset = ["server.socket", "auth.token", "limits.default.fuel", "limits.cap.fuel"];
    let mut missing = Vec::new();
    visit("", &serde_json::to_value(&config).unwrap(), &mut |key, value| {
        let line = page.lines().find(|line| line.starts_with(&format!("| `{key}` |")));
        let default = match value {
            _ if unset.contains(&key) => "unset".to_owned(),
            serde_json::Value::String(text) => format!("`{text:?}`"),
            other => format!("`{other}`"),
        };
        if line.and_then(|line| line.split('|').nth(2)).map(str::trim) != Some(&*default) {
            missing.push(format!("| `{key}` | {default} |"));
        }
    });
    assert_eq!(missing, [""; 0], "docs/configuration.md lacks these rows");
}

fn visit(path: &str, value: &serde_json::Value, seen: &mut impl FnMut(&str, &serde_json::Value)) {
    match value {
        serde_json::Value::Object(keys) => {
            for (key, value) in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                visit(&path, value, seen);
            }
        }
        value => seen(path, value),
    }
}
