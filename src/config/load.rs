//! The layers of the configuration and their order. Nothing else in this crate reads the environment.

use super::problem::{ConfigError, Problem};
use super::sections::Config;
use figment::error::Kind;
use figment::providers::Serialized;
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Name of the file that is looked for.
pub const FILE_NAME: &str = "casemate.toml";

const PREFIX: &str = "CASEMATE_";
/// Between the sections and the key in a variable's name.
const SEPARATOR: &str = "__";
/// Largest configuration file; anything longer is not one.
const LARGEST_FILE: u64 = 1 << 20;
/// Problems told at once; a file of another program would have hundreds.
const MOST_PROBLEMS: usize = 32;

/// Docker's own variables: where every other program that speaks with it looks, below the file.
const DOCKER: [(&str, &str); 1] = [("DOCKER_HOST", "containers.host")];

/// The environment as it was when the process started.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    /// Variables of ours whose value is not UTF-8.
    unreadable: Vec<String>,
    /// Where relative file names are looked for; empty is the working directory.
    directory: PathBuf,
}

impl Environment {
    /// The environment of this process.
    pub fn of_process() -> Self {
        let mut environment = Environment::default();
        for (name, value) in std::env::vars_os() {
            // A name that is not UTF-8 is none of ours.
            let Ok(name) = name.into_string() else { continue };
            match value.into_string() {
                Ok(value) => drop(environment.variables.insert(name, value)),
                Err(_) if name.starts_with(PREFIX) => environment.unreadable.push(name),
                Err(_) => {}
            }
        }
        environment
    }

    /// An environment of these variables, looking for files in `directory`: for tests and embedders.
    pub fn of(variables: impl IntoIterator<Item = (String, String)>, directory: impl Into<PathBuf>) -> Self {
        Environment { variables: variables.into_iter().collect(), unreadable: Vec::new(), directory: directory.into() }
    }

    /// The value of a variable; an empty one counts as absent.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// A flag that sets a key.
#[derive(Clone, Debug)]
pub struct Flag {
    /// The flag, as people write it: `--address`.
    pub name: &'static str,
    /// The key it sets: `server.address`.
    pub key: &'static str,
    /// Its value.
    pub value: String,
}

/// Where values come from besides the defaults.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file named by `--config`.
    pub file: Option<PathBuf>,
    /// The environment.
    pub environment: Environment,
    /// Flags that set keys.
    pub flags: Vec<Flag>,
}

/// A configuration that a server can start from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// What is not wrong but should be known, one sentence each.
    pub warnings: Vec<String>,
}

/// Loads and checks the configuration. Tells all problems it can find at once.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let file = find_file(sources);
    let (figment, mut problems) = layers(sources, file.as_ref())?;
    let (config, malformed) = extract(&figment);
    problems.extend(malformed);
    // What a rule says of a default that stands in for a malformed value would only confuse.
    let malformed: Vec<String> = problems.iter().map(|problem| problem.key.clone()).collect();
    problems.extend(config.validate().into_iter().filter(|problem| !malformed.contains(&problem.key)).map(|problem| {
        let origin = origin(&figment, &problem.key);
        Problem { origin, ..problem }
    }));
    if !problems.is_empty() {
        return Err(ConfigError { problems });
    }
    let file = file.map(|file| file.path);
    let mut warnings = Vec::new();
    if let Some(path) = &file
        && config.auth.token.is_some()
        && origin(&figment, "auth.token").is_some_and(|origin| origin.starts_with("file "))
        && std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o077 != 0)
    {
        warnings
            .push(format!("{} holds the token and others on this machine can open it: chmod 600 it", path.display()));
    }
    Ok(Loaded { config, file, warnings })
}

/// The layers, lowest first: this list is the order of precedence.
pub(super) fn layers(sources: &Sources, file: Option<&File>) -> Result<(Figment, Vec<Problem>), ConfigError> {
    let mut problems = Vec::new();
    let mut figment = Figment::from(Serialized::defaults(Config::default()));
    for (name, key) in DOCKER {
        if let Some(value) = sources.environment.get(name) {
            figment = figment.merge(Layer::of_key(format!("environment variable {name}"), key, value.to_owned()));
        }
    }
    if let Some(file) = file {
        figment = figment.merge(file.read()?);
    }
    for layer in environment_layers(&sources.environment, &mut problems) {
        figment = figment.merge(layer);
    }
    for flag in &sources.flags {
        figment = figment.merge(Layer::of_key(format!("flag {}", flag.name), flag.key, flag.value.clone()));
    }
    Ok((figment, problems))
}

/// One variable is one layer, so that a problem can name it. Variables without the separator are not
/// keys: the clients' own (`CASEMATE_ADDRESS`, `CASEMATE_TOKEN`, `CASEMATE_CONFIG`), and those that
/// Kubernetes sets in every Pod beside a Service named casemate (`CASEMATE_PORT`,
/// `CASEMATE_SERVICE_HOST`, `CASEMATE_PORT_9800_TCP_ADDR`), which must not stop a start.
fn environment_layers(environment: &Environment, problems: &mut Vec<Problem>) -> Vec<Layer> {
    let key_of = |name: &str| {
        let key = name.strip_prefix(PREFIX)?;
        key.contains(SEPARATOR).then(|| key.to_lowercase().replace(SEPARATOR, "."))
    };
    for name in &environment.unreadable {
        if let Some(key) = key_of(name) {
            let origin = Some(format!("environment variable {name}"));
            problems.push(Problem { key, origin, text: "found bytes that are not UTF-8, expected text".into() });
        }
    }
    let layer = |(name, value): (&String, &String)| {
        let key = key_of(name)?;
        Some(Layer::of_key(format!("environment variable {name}"), &key, value.clone()))
    };
    environment.variables.iter().filter_map(layer).collect()
}

/// Reads the typed configuration; every key that cannot be read is told and left at its default, so
/// that the next one is found as well.
pub(super) fn extract(figment: &Figment) -> (Config, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut dict = match figment.data() {
        Ok(mut profiles) => profiles.remove(&Profile::Default).unwrap_or_default(),
        Err(error) => return (Config::default(), vec![Problem::new("", error.to_string())]),
    };
    loop {
        let error = match Value::from(dict.clone()).deserialize::<Config>() {
            Ok(config) => return (config, problems),
            Err(error) => error,
        };
        let key = error.path.join(".");
        problems.push(Problem { origin: origin(figment, &key), text: describe(&key, &error.kind), key });
        if problems.len() == MOST_PROBLEMS || !remove(&mut dict, &error.path) {
            return (Config::default(), problems);
        }
    }
}

/// What was found, and what is allowed.
fn describe(key: &str, kind: &Kind) -> String {
    match kind {
        // Whatever was found there may be the secret.
        _ if key == "auth.token" => "expected text in quotes".into(),
        _ if key == "auth" => "expected a table with the key token".into(),
        Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
            // serde's word for a table is the name of a type of ours.
            let expected = if expected.starts_with("struct ") { "a table of keys" } else { expected };
            format!("found {found}, expected {expected}")
        }
        Kind::UnknownVariant(found, allowed) => format!("found {found:?}, expected one of {}", allowed.join(", ")),
        Kind::UnknownField(_, allowed) => format!("there is no such key; expected one of {}", allowed.join(", ")),
        other => other.to_string(),
    }
}

/// Where the value of a key came from; `None` for a default.
fn origin(figment: &Figment, key: &str) -> Option<String> {
    let metadata = figment.find_metadata(key)?;
    // Only the layers made here have an origin worth telling.
    let name = &*metadata.name;
    ["file ", "environment variable ", "flag "].iter().any(|kind| name.starts_with(kind)).then(|| name.to_owned())
}

fn remove(dict: &mut Dict, path: &[String]) -> bool {
    match path {
        [] => false,
        [key] => dict.remove(key).is_some(),
        [key, rest @ ..] => match dict.get_mut(key) {
            Some(Value::Dict(_, inner)) => remove(inner, rest),
            // An element of a list: the list goes as a whole.
            Some(_) => dict.remove(key).is_some(),
            None => false,
        },
    }
}

/// A configuration file, and whether somebody asked for just this one.
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) asked_by: Option<&'static str>,
}

/// `--config`, else `CASEMATE_CONFIG`, else the first of the usual places where a file is.
pub(super) fn find_file(sources: &Sources) -> Option<File> {
    let environment = &sources.environment;
    if let Some(path) = &sources.file {
        return Some(File { path: path.clone(), asked_by: Some("--config") });
    }
    if let Some(path) = environment.get("CASEMATE_CONFIG") {
        return Some(File { path: path.into(), asked_by: Some("CASEMATE_CONFIG") });
    }
    let home = || environment.get("HOME").map(|home| Path::new(home).join(".config"));
    let user = environment.get("XDG_CONFIG_HOME").map(PathBuf::from).or_else(home);
    let usual = [Some(environment.directory.join(FILE_NAME)), user.map(|user| user.join("casemate").join(FILE_NAME))];
    usual.into_iter().flatten().find(|path| path.is_file()).map(|path| File { path, asked_by: None })
}

impl File {
    fn read(&self) -> Result<Layer, ConfigError> {
        let name = format!("file {}", self.path.display());
        let refuse = |text: String| Problem { key: String::new(), origin: Some(name.clone()), text };
        let text = read_text(&self.path).map_err(|error| {
            let asked = self.asked_by.map(|asked| format!(" (named by {asked})")).unwrap_or_default();
            refuse(format!("cannot be read{asked}: {error}"))
        })?;
        let dict = Dict::deserialize(toml::Deserializer::parse(&text).map_err(|error| refuse(explain(&error, &text)))?)
            .map_err(|error| refuse(explain(&error, &text)))?;
        Ok(Layer { name, dict })
    }
}

fn read_text(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let read = std::fs::File::open(path)?.take(LARGEST_FILE + 1).read_to_string(&mut text)?;
    if read as u64 > LARGEST_FILE {
        return Err(std::io::Error::other("it has more than 1 MiB: not a configuration file"));
    }
    Ok(text)
}

/// The place and the fault, without the line itself: it may hold the token.
fn explain(error: &toml::de::Error, text: &str) -> String {
    let place = error.span().and_then(|span| text.get(..span.start)).map(|before| {
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        format!("line {line}, column {column}: ")
    });
    format!("{}is not valid TOML: {}", place.unwrap_or_default(), error.message().trim().replace('\n', "; "))
}

/// One layer: values and where they came from.
struct Layer {
    name: String,
    dict: Dict,
}

impl Layer {
    fn of_key(name: String, key: &str, value: String) -> Layer {
        let mut parts = key.split('.').rev();
        let last = parts.next().unwrap_or_default().to_owned();
        let nest = |dict: Dict, part: &str| Dict::from([(part.to_owned(), Value::from(dict))]);
        Layer { name, dict: parts.fold(Dict::from([(last, Value::from(value))]), nest) }
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Profile::Default.collect(self.dict.clone()))
    }
}
