//! Where a client finds the server, and with which token.

use super::load::{Environment, Flag, Sources, extract, find_file, layers};
use super::problem::{ConfigError, Problem};
use super::secret::Secret;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// Where a server listens, as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Host and port.
    Tcp(String),
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Tcp(authority) => write!(f, "{authority}"),
            Target::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected host:port, http://host:port or unix:PATH";
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path {
                "" => Err(format!("found {text:?}, {EXPECTED}")),
                path => Ok(Target::Unix(path.into())),
            };
        }
        if text.starts_with("https://") {
            return Err(format!("found {text:?}, but the server speaks no TLS; {EXPECTED}"));
        }
        let authority = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        let parsed: Result<http::uri::Authority, _> = authority.parse();
        match parsed.ok().filter(|authority| !authority.as_str().contains('@')).and_then(|a| a.port_u16()) {
            None => Err(format!("found {text:?}, {EXPECTED}")),
            Some(0) => Err(format!("found {text:?}, but no server listens on port 0; {EXPECTED}")),
            Some(_) => Ok(Target::Tcp(authority.to_owned())),
        }
    }
}

/// How a client reaches its server.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// Where it is.
    pub target: Target,
    /// The bearer token to send.
    pub token: Option<Secret>,
    /// Why the configuration file was left out, if one lay in a usual place but could not be used.
    pub skipped: Option<String>,
}

impl ClientSettings {
    /// Flags win over `CASEMATE_ADDRESS` and `CASEMATE_TOKEN`, those over the server's own configuration
    /// (`server.address`, `auth.token`). A file that nobody asked for by name and that cannot be used,
    /// say because it is another user's, is left out.
    pub fn resolve(
        file: Option<PathBuf>,
        environment: &Environment,
        address: Option<&str>,
        token: Option<&str>,
    ) -> Result<ClientSettings, ConfigError> {
        let given = |flag: Option<&str>, flag_name, variable: &'static str| match flag {
            Some(value) => Some((value.to_owned(), format!("flag {flag_name}"))),
            None => {
                environment.get(variable).map(|value| (value.to_owned(), format!("environment variable {variable}")))
            }
        };
        let address = given(address, "--address", "CASEMATE_ADDRESS");
        let token = given(token, "--token", "CASEMATE_TOKEN").map(|(token, _)| Secret::new(token));
        let mut skipped = None;
        let mut server = (None, None);
        if address.is_none() || token.is_none() {
            let sources = Sources { file, environment: environment.clone(), flags: Vec::<Flag>::new() };
            match read_server(&sources) {
                Ok(found) => server = found,
                Err(error) if find_file(&sources).is_none_or(|file| file.asked_by.is_some()) => return Err(error),
                Err(error) => skipped = Some(error.to_string()),
            }
        }
        let (server_address, server_token) = server;
        let target = match address {
            Some((text, origin)) => {
                text.parse().map_err(|text| Problem { key: "address".into(), origin: Some(origin), text })?
            }
            None => reachable(server_address)?,
        };
        Ok(ClientSettings { target, token: token.or(server_token), skipped })
    }
}

type Server = (Option<SocketAddr>, Option<Secret>);

/// What the server's configuration says of address and token; problems of other keys are the server's affair.
fn read_server(sources: &Sources) -> Result<Server, ConfigError> {
    let (figment, _) = layers(sources, find_file(sources).as_ref())?;
    let (config, problems) = extract(&figment);
    let ours = |problem: &Problem| matches!(&*problem.key, "server" | "server.address" | "auth" | "auth.token");
    let problems: Vec<Problem> = problems.into_iter().filter(ours).collect();
    if problems.is_empty() {
        Ok((Some(config.server.address), config.auth.token))
    } else {
        Err(ConfigError { problems })
    }
}

/// Where to connect to reach a server that listens there.
fn reachable(address: Option<SocketAddr>) -> Result<Target, ConfigError> {
    let mut address = address.unwrap_or_else(|| super::Config::default().server.address);
    if address.port() == 0 {
        let text =
            "is port 0, so the system chose the port at the server's start; name it with --address or CASEMATE_ADDRESS";
        return Err(Problem::new("server.address", text).into());
    }
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    Ok(Target::Tcp(address.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        for (text, expected) in [
            ("127.0.0.1:9800", "127.0.0.1:9800"),
            ("http://casemate.internal:80/", "casemate.internal:80"),
            ("[::1]:9800", "[::1]:9800"),
            ("unix:/run/c.sock", "unix:/run/c.sock"),
            ("unix:///run/c.sock", "unix:/run/c.sock"),
            ("unix:rel.sock", "unix:rel.sock"),
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), expected);
        }
        for text in ["", "localhost", "http://a", "https://a:1", "a:0", "a:99999", "unix:", "u@a:1", "a b:1", "a:1/x"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }

    fn resolve(
        vars: &[(&str, &str)],
        file: Option<&str>,
        address: Option<&str>,
    ) -> Result<ClientSettings, ConfigError> {
        let directory = tempfile::tempdir().unwrap();
        if let Some(text) = file {
            std::fs::write(directory.path().join("casemate.toml"), text).unwrap();
        }
        let vars = vars.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        ClientSettings::resolve(None, &Environment::of(vars, directory.path()), address, None)
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let file = "server.address = \"0.0.0.0:7\"\nauth.token = \"from-the-file\"\nlog.level = 3";
        let settings = resolve(&[], Some(file), None).unwrap();
        assert_eq!(settings.target.to_string(), "127.0.0.1:7");
        assert_eq!(settings.token.unwrap().expose(), "from-the-file");
        let vars = [("CASEMATE_ADDRESS", "b:8"), ("CASEMATE_TOKEN", "t")];
        let settings = resolve(&vars, Some(file), None).unwrap();
        assert_eq!((settings.target.to_string().as_str(), settings.token.unwrap().expose()), ("b:8", "t"));
        assert_eq!(resolve(&vars, Some(file), Some("c:9")).unwrap().target.to_string(), "c:9");
        assert_eq!(resolve(&[], None, None).unwrap().target.to_string(), "127.0.0.1:9800");
    }

    #[test]
    fn a_file_nobody_asked_for_is_left_out_when_it_is_of_no_use() {
        let settings = resolve(&[], Some("this is not toml"), None).unwrap();
        assert!(settings.skipped.is_some_and(|text| text.contains("line 1")));
        let asked = resolve(&[("CASEMATE_CONFIG", "/nowhere/casemate.toml")], None, None).unwrap_err();
        assert!(asked.to_string().contains("/nowhere/casemate.toml"), "{asked}");
        assert!(asked.to_string().contains("CASEMATE_CONFIG"), "{asked}");
    }

    #[test]
    fn an_address_that_is_none_is_told_with_its_origin() {
        let error = resolve(&[("CASEMATE_ADDRESS", "nonsense")], None, None).unwrap_err().to_string();
        assert!(error.contains("environment variable CASEMATE_ADDRESS"), "{error}");
        assert!(resolve(&[], Some("server.address = \"127.0.0.1:0\""), None).is_err());
    }
}
