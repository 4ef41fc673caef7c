//! Manifest files, as TOML and as JSON: what is accepted is said by the text, and is written and read back as it
//! is; what is refused names a field of the manifest in a text of bounded length.
#![no_main]

use casemate::domain::manifest::Manifest;
use casemate::error::{Error, Reason};
use casemate::tool::manifest::{self, Format};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};

/// A refusal travels in the trailers of an answer, which clients bound to 8 KiB.
const MAX_REFUSAL: usize = 4 << 10;

fuzz_target!(|text: &[u8]| {
    match manifest::parse("fuzz", Format::Toml, text) {
        Ok(manifest) => {
            let text = std::str::from_utf8(text).expect("TOML is UTF-8");
            let document: toml::Table = toml::from_str(text).expect("what is accepted is TOML");
            for (key, schema) in [("input_schema", &manifest.input_schema), ("output_schema", &manifest.output_schema)]
            {
                assert_eq!(document.get(key).map(json_of), *schema, "{key} is not what the text says");
            }
            by_key(&json_of(&toml::Value::Table(document)));
            accepted(&manifest);
        }
        Err(error) => refused(&error),
    }
    match manifest::parse("fuzz", Format::Json, text) {
        Ok(manifest) => {
            let document: Map<String, Value> =
                serde_json::from_slice(text).expect("what is accepted is one JSON object");
            by_key(&Value::Object(document));
            accepted(&manifest);
        }
        Err(error) => refused(&error),
    }
});

/// Nothing is granted by its position.
fn by_key(document: &Value) {
    for key in ["limits", "network"] {
        assert!(document.get(key).is_none_or(Value::is_object), "{key} is not a table");
    }
    let directories = document.get("directories").and_then(Value::as_array);
    assert!(directories.is_none_or(|grants| grants.iter().all(Value::is_object)), "a directory is not a table");
}

fn accepted(manifest: &Manifest) {
    manifest::check("fuzz", manifest).expect("what is parsed passes the check");
    match manifest::to_json("fuzz", manifest) {
        Ok(json) => {
            let again = manifest::parse("fuzz", Format::Json, &json).expect("what is written can be read");
            assert_eq!(again, *manifest, "as JSON:\n{}", String::from_utf8_lossy(&json));
        }
        // Near the bound of a manifest file, its JSON can be beyond it: then it must not be written.
        Err(error) => refused(&error),
    }
}

fn refused(error: &Error) {
    assert_eq!(error.reason(), Reason::ManifestInvalid, "{error}");
    let Error::ManifestInvalid { tool, violations } = error else { unreachable!("by its reason") };
    assert_eq!(tool, "fuzz");
    assert!(!violations.is_empty());
    let size: usize = violations.iter().map(|violation| violation.field.len() + violation.description.len()).sum();
    assert!(size <= MAX_REFUSAL, "a refusal of {size} bytes");
    for violation in violations {
        assert!(violation.field == "manifest" || violation.field.starts_with("manifest."), "{violation:?}");
        assert!(!violation.description.is_empty() && !violation.description.contains('\n'), "{violation:?}");
    }
}

/// TOML as JSON, value by value. What JSON cannot say must not have been accepted.
fn json_of(value: &toml::Value) -> Value {
    match value {
        toml::Value::String(text) => Value::from(text.as_str()),
        toml::Value::Integer(number) => Value::from(*number),
        toml::Value::Float(number) => {
            Value::Number(serde_json::Number::from_f64(*number).expect("an infinite number was accepted"))
        }
        toml::Value::Boolean(value) => Value::from(*value),
        toml::Value::Datetime(time) => panic!("{time} was accepted as a part of a schema"),
        toml::Value::Array(values) => values.iter().map(json_of).collect(),
        toml::Value::Table(table) => table.iter().map(|(key, value)| (key.clone(), json_of(value))).collect(),
    }
}
