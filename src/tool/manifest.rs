//! Manifests as files: TOML or JSON in, one checked form out, and JSON back for what is registered.

mod keys;

use super::schema::shorten;
use crate::domain::limits::LimitsRequest;
use crate::domain::manifest::{DirectoryGrant, Manifest, OutputFormat, Runtime};
use crate::error::{Error, Result, Violation};
use bytesize::ByteSize;
use keys::{DirectoryKeys, File, Keyed, LimitsKeys, NetworkKeys, OutputKey, RuntimeKey};
use std::time::Duration;
use toml::de::{DeTable, DeValue};

/// Largest manifest file.
pub const MAX_BYTES: u64 = 1 << 20;
const MAX_DESCRIPTION: usize = 16 << 10;
const MAX_VERSION: usize = 64;
/// Bytes of a refusal's problems together: it travels in the trailers of an answer, where clients take 8 KiB.
const MAX_REFUSAL: usize = 3 << 10;

/// How a manifest file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `NAME.toml`
    Toml,
    /// `NAME.json`
    Json,
}

/// Reads a manifest file.
pub fn parse(tool: &str, format: Format, text: &[u8]) -> Result<Manifest> {
    let refuse = |field: String, problem: String| refused(tool, vec![Violation::new(field, problem)]);
    let text = std::str::from_utf8(text).map_err(|error| refuse("manifest".into(), error.to_string()))?;
    let Keyed(file): Keyed<File> = match format {
        Format::Toml => {
            let table = DeTable::parse(text).map_err(|error| refuse("manifest".into(), one_line(error)))?;
            if let Some((below, problem)) = foreign_to_json(table.get_ref()) {
                return Err(refuse(format!("manifest{below}"), problem));
            }
            let document =
                toml::Deserializer::parse(text).map_err(|error| refuse("manifest".into(), one_line(error)))?;
            serde_path_to_error::deserialize(document)
                .map_err(|error| refuse(format!("manifest.{}", error.path()), one_line(error.inner())))?
        }
        Format::Json => {
            let mut document = serde_json::Deserializer::from_str(text);
            let file = serde_path_to_error::deserialize(&mut document)
                .map_err(|error| refuse(format!("manifest.{}", error.path()), one_line(error.inner())))?;
            document.end().map_err(|error| refuse("manifest".into(), one_line(error)))?;
            file
        }
    };
    let (Keyed(limits), Keyed(network)) = (file.limits, file.network);
    let manifest = Manifest {
        description: file.description,
        version: file.version,
        input_schema: file.input_schema,
        output_schema: file.output_schema,
        runtime: match file.runtime {
            RuntimeKey::Wasm => Runtime::Wasm,
            RuntimeKey::Container => Runtime::Container,
        },
        output: match file.output {
            OutputKey::Auto => OutputFormat::Auto,
            OutputKey::Json => OutputFormat::Json,
            OutputKey::Text => OutputFormat::Text,
            OutputKey::Bytes => OutputFormat::Bytes,
        },
        limits: LimitsRequest {
            wall_time: limits.wall_time,
            memory_bytes: limits.memory.map(|size| size.0),
            table_elements: limits.table_elements,
            stack_bytes: limits.stack.map(|size| size.0),
            output_bytes: limits.output.map(|size| size.0),
            host_calls: limits.host_calls,
            fuel: limits.fuel,
            scratch_bytes: limits.scratch.map(|size| size.0),
            child_executions: limits.child_executions,
            child_depth: limits.child_depth,
        },
        max_concurrent: file.max_concurrent,
        network_allow: network.allow,
        directories: file
            .directories
            .into_iter()
            .map(|Keyed(keys)| DirectoryGrant { host: keys.host, guest: keys.guest, writable: keys.writable })
            .collect(),
        credentials: file.credentials,
        environment: file.environment,
    };
    check(tool, &manifest)?;
    Ok(manifest)
}

/// The manifest as a JSON file that `parse` reads back to the same. Refused if that file would be larger than
/// [`MAX_BYTES`]: it could not be read back.
pub fn to_json(tool: &str, manifest: &Manifest) -> Result<Vec<u8>> {
    let file = File {
        description: manifest.description.clone(),
        version: manifest.version.clone(),
        runtime: match manifest.runtime {
            Runtime::Wasm => RuntimeKey::Wasm,
            Runtime::Container => RuntimeKey::Container,
        },
        output: match manifest.output {
            OutputFormat::Auto => OutputKey::Auto,
            OutputFormat::Json => OutputKey::Json,
            OutputFormat::Text => OutputKey::Text,
            OutputFormat::Bytes => OutputKey::Bytes,
        },
        max_concurrent: manifest.max_concurrent,
        credentials: manifest.credentials.clone(),
        environment: manifest.environment.clone(),
        limits: Keyed(LimitsKeys {
            wall_time: manifest.limits.wall_time,
            memory: manifest.limits.memory_bytes.map(ByteSize),
            table_elements: manifest.limits.table_elements,
            stack: manifest.limits.stack_bytes.map(ByteSize),
            output: manifest.limits.output_bytes.map(ByteSize),
            host_calls: manifest.limits.host_calls,
            fuel: manifest.limits.fuel,
            scratch: manifest.limits.scratch_bytes.map(ByteSize),
            child_executions: manifest.limits.child_executions,
            child_depth: manifest.limits.child_depth,
        }),
        network: Keyed(NetworkKeys { allow: manifest.network_allow.clone() }),
        directories: manifest
            .directories
            .iter()
            .map(|grant| {
                Keyed(DirectoryKeys { host: grant.host.clone(), guest: grant.guest.clone(), writable: grant.writable })
            })
            .collect(),
        input_schema: manifest.input_schema.clone(),
        output_schema: manifest.output_schema.clone(),
    };
    let json = serde_json::to_vec_pretty(&file)
        .map_err(|error| Error::Internal(format!("cannot write a manifest: {error}")))?;
    if json.len() as u64 > MAX_BYTES {
        let problem = format!("is {} bytes long as a JSON file; at most {MAX_BYTES}", json.len());
        return Err(refused(tool, vec![Violation::new("manifest", problem)]));
    }
    Ok(json)
}

/// Checks what no type can say; answers every problem at once.
pub fn check(tool: &str, manifest: &Manifest) -> Result<()> {
    let mut violations = Vec::new();
    let mut problem = |field: &str, text: String| violations.push(Violation::new(format!("manifest.{field}"), text));
    if manifest.description.len() > MAX_DESCRIPTION {
        problem("description", format!("is {} bytes long; at most {MAX_DESCRIPTION}", manifest.description.len()));
    }
    if manifest.version.len() > MAX_VERSION {
        problem("version", format!("is {} bytes long; at most {MAX_VERSION}", manifest.version.len()));
    }
    if manifest.runtime == Runtime::Container {
        problem("runtime", "container tools are not part of this build; use \"wasm\"".into());
    }
    if manifest.max_concurrent == Some(0) {
        problem("max_concurrent", "must be at least 1; leave it out for the server's default".into());
    }
    for (name, limit) in [
        ("memory", manifest.limits.memory_bytes),
        ("stack", manifest.limits.stack_bytes),
        ("output", manifest.limits.output_bytes),
        ("fuel", manifest.limits.fuel),
    ] {
        if limit == Some(0) {
            problem(&format!("limits.{name}"), "must be more than 0; leave it out for the server's default".into());
        }
    }
    if manifest.limits.wall_time == Some(Duration::ZERO) {
        problem("limits.wall_time", "must be more than 0; leave it out for the server's default".into());
    }
    for host in &manifest.network_allow {
        if !is_host_pattern(host) {
            problem(
                "network.allow",
                format!("{host:?} is not a host name; expected \"host\", \"*.domain\" or \"host:port\""),
            );
        }
    }
    for name in manifest.environment.keys() {
        if name.is_empty() || name.contains(['=', '\0']) {
            problem("environment", format!("{name:?} is not a variable name"));
        }
    }
    for (name, value) in &manifest.environment {
        if value.contains('\0') {
            problem("environment", format!("the value of {name:?} contains a NUL byte"));
        }
    }
    for grant in &manifest.directories {
        if !grant.host.is_absolute() || !grant.guest.starts_with('/') {
            problem("directories", format!("{:?}: host and guest paths must be absolute", grant.host));
        }
    }
    if violations.is_empty() { Ok(()) } else { Err(refused(tool, violations)) }
}

/// The refusal with these problems, as many as fit, each cut where it is long: what is wrong is quoted, and may be
/// the whole file.
fn refused(tool: &str, violations: Vec<Violation>) -> Error {
    let all = violations.len();
    let mut size = 0;
    let mut told: Vec<Violation> = violations
        .into_iter()
        .map(|violation| Violation::new(shorten(violation.field), shorten(violation.description)))
        .take_while(|violation| {
            size += violation.field.len() + violation.description.len();
            size <= MAX_REFUSAL
        })
        .collect();
    if told.len() < all {
        told.push(Violation::new("manifest", format!("and {} more problems", all - told.len())));
    }
    Error::ManifestInvalid { tool: tool.into(), violations: told }
}

/// The place below this table of the first value that TOML has and JSON has not, and what is wrong with it: in a
/// schema it would be read as something else.
fn foreign_to_json(table: &DeTable<'_>) -> Option<(String, String)> {
    fn value(found: &DeValue<'_>) -> Option<(String, String)> {
        match found {
            DeValue::Datetime(time) => {
                Some((String::new(), format!("{time} is a TOML date or time; write it as a string")))
            }
            DeValue::Float(number) if !number.as_str().parse::<f64>().is_ok_and(f64::is_finite) => {
                Some((String::new(), format!("{} is not a number of JSON", number.as_str())))
            }
            DeValue::Array(values) => values.iter().enumerate().find_map(|(at, found)| {
                value(found.get_ref()).map(|(below, problem)| (format!("[{at}]{below}"), problem))
            }),
            DeValue::Table(table) => foreign_to_json(table),
            DeValue::Float(_) | DeValue::String(_) | DeValue::Integer(_) | DeValue::Boolean(_) => None,
        }
    }
    table.iter().find_map(|(key, found)| {
        value(found.get_ref()).map(|(below, problem)| (format!(".{}{below}", key.get_ref()), problem))
    })
}

/// `host`, `*.domain`, either with `:port`.
fn is_host_pattern(text: &str) -> bool {
    let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let labels = host.strip_prefix("*.").unwrap_or(host);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    labels.len() <= 253
        && labels.split('.').all(label)
        && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn one_line(error: impl std::fmt::Display) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOML: &str = r#"
description = "Echoes"
version = "1.2"
output = "json"
max_concurrent = 4
credentials = ["github"]

[limits]
wall_time = "2s"
memory = "64MiB"
fuel = 1000
scratch = "1MiB"
child_executions = 0
child_depth = 2

[network]
allow = ["api.example.com", "*.example.org:443"]

[input_schema]
type = "object"
"#;

    #[test]
    fn toml_and_json_give_the_same_manifest() {
        let manifest = parse("echo", Format::Toml, TOML.as_bytes()).unwrap();
        assert_eq!(manifest.limits.memory_bytes, Some(64 << 20));
        assert_eq!(manifest.limits.wall_time, Some(Duration::from_secs(2)));
        let limits = &manifest.limits;
        let children = (limits.scratch_bytes, limits.child_executions, limits.child_depth);
        assert_eq!(children, (Some(1 << 20), Some(0), Some(2)));
        assert_eq!(manifest.input_schema, Some(serde_json::json!({"type": "object"})));
        let json = to_json("echo", &manifest).unwrap();
        assert_eq!(parse("echo", Format::Json, &json).unwrap(), manifest);
    }

    fn violations(text: &str) -> Vec<Violation> {
        refusal(Format::Toml, text)
    }

    #[test]
    fn errors_name_the_key_and_what_was_expected() {
        let unknown = violations("[limits]\nmemmory = 1");
        assert!(unknown[0].field.contains("limits"), "{unknown:?}");
        assert!(unknown[0].description.contains("memmory"), "{unknown:?}");
        assert_eq!(violations("[limits]\nmemory = \"lots\"")[0].field, "manifest.limits.memory");
        assert!(violations("output = \"xml\"")[0].description.contains("json"));
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let found =
            violations("max_concurrent = 0\n[network]\nallow = [\"http://x\", \"ok.example\"]\n[limits]\nfuel = 0");
        assert_eq!(found.len(), 3, "{found:?}");
    }

    #[test]
    fn host_patterns() {
        for good in ["a", "a.b", "*.a.b", "a.b:8080", "a-b.c_d"] {
            assert!(is_host_pattern(good), "{good}");
        }
        for bad in ["", "*", "a..b", "-a", "a:0", "a:99999", "https://a", "a/b", "*.*.a"] {
            assert!(!is_host_pattern(bad), "{bad}");
        }
    }

    fn refusal(format: Format, text: &str) -> Vec<Violation> {
        match parse("t", format, text.as_bytes()) {
            Err(Error::ManifestInvalid { violations, .. }) => violations,
            other => panic!("expected violations, got {other:?}"),
        }
    }

    #[test]
    fn a_written_manifest_keeps_every_byte_and_every_digit() {
        let text = "[limits]\nmemory = 100000001\nstack = 18446744073709551615\nwall_time = \"1s 1ns\"\n\
                    [input_schema]\nmaximum = 0.9452706955539223";
        let manifest = parse("t", Format::Toml, text.as_bytes()).unwrap();
        let json = to_json("t", &manifest).unwrap();
        assert_eq!(parse("t", Format::Json, &json).unwrap(), manifest);
    }

    #[test]
    fn a_manifest_that_could_not_be_read_back_is_not_written() {
        let input_schema = Some(serde_json::json!({ "description": "x".repeat(MAX_BYTES as usize) }));
        let manifest = Manifest { input_schema, ..Manifest::default() };
        assert!(matches!(to_json("t", &manifest), Err(Error::ManifestInvalid { .. })));
    }

    #[test]
    fn a_json_manifest_is_one_object() {
        for text in
            ["{} {}", "{}]", "[]", "[\"Echoes\"]", "{\"limits\": []}", "{\"directories\": [[\"/a\", \"/b\", true]]}"]
        {
            refusal(Format::Json, text);
        }
        assert_eq!(refusal(Format::Toml, "network = []")[0].field, "manifest.network");
    }

    #[test]
    fn what_only_toml_can_say_is_refused_with_its_place() {
        let found = refusal(Format::Toml, "[input_schema]\nenum = [1, 1979-05-27]");
        assert_eq!(found[0].field, "manifest.input_schema.enum[1]");
        assert_eq!(refusal(Format::Toml, "input_schema.maximum = inf")[0].field, "manifest.input_schema.maximum");
    }

    #[test]
    fn a_refusal_is_short_however_much_is_wrong() {
        let long = "y".repeat(100_000);
        let hosts = "\"!\",".repeat(10_000);
        for text in [
            format!("output = \"{long}\""),
            format!("{long} = 1"),
            format!("environment = {{ {long} = 1 }}"),
            format!("network.allow = [{hosts}]"),
        ] {
            let found = refusal(Format::Toml, &text);
            let size: usize = found.iter().map(|v| v.field.len() + v.description.len()).sum();
            assert!(size < 2 * MAX_REFUSAL, "{size} bytes");
        }
        let many = refusal(Format::Toml, &format!("network.allow = [{hosts}]"));
        assert!(many.last().unwrap().description.ends_with("more problems"));
    }
}
