//! JSON Schemas of tools, and documents against them. An input is the schema on one line and the document below it.
#![no_main]

use casemate::error::{Error, Reason};
use casemate::tool::{Problem, Schema};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const MAX_PROBLEMS: usize = 50;
/// Problems travel in the trailers of an answer, which clients bound to 8 KiB.
const MAX_TOLD: usize = 3 << 10;
const MAX_TEXT: usize = 300 + '…'.len_utf8();

fuzz_target!(|data: &[u8]| {
    let split = data.iter().position(|&byte| byte == b'\n').unwrap_or(data.len());
    let Ok(said) = serde_json::from_slice::<Value>(&data[..split]) else { return };
    let document = serde_json::from_slice::<Value>(data.get(split..).unwrap_or_default()).unwrap_or(Value::Null);
    let schema = match Schema::compile("fuzz", "input_schema", &said) {
        Ok(schema) => schema,
        Err(error) => return refused(&error),
    };
    assert!(said.is_object() || said.is_boolean());
    let answer = schema.check(&document);
    let again = Schema::compile("fuzz", "input_schema", &said).expect("it compiled before");
    assert_eq!(again.check(&document), answer, "two answers to one question");
    match said {
        Value::Bool(all) => assert_eq!(answer.is_ok(), all),
        Value::Object(keywords) if keywords.is_empty() => assert_eq!(answer, Ok(())),
        _ => {}
    }
    if let Err(problems) = answer {
        assert!((1..=MAX_PROBLEMS).contains(&problems.len()), "{} problems", problems.len());
        let size: usize = problems.iter().map(|problem| problem.pointer.len() + problem.text.len()).sum();
        assert!(size <= MAX_TOLD, "problems of {size} bytes");
        problems.iter().for_each(|problem| told(problem, &document));
    }
});

/// A problem is at a place that the document has.
fn told(problem: &Problem, document: &Value) {
    assert!(document.pointer(&problem.pointer).is_some(), "{problem:?} is nowhere in {document}");
    assert!(!problem.text.is_empty() && problem.text.len() <= MAX_TEXT, "{problem:?}");
}

fn refused(error: &Error) {
    assert_eq!(error.reason(), Reason::ManifestInvalid);
    let Error::ManifestInvalid { tool, violations } = error else { unreachable!("by its reason") };
    assert_eq!(tool, "fuzz");
    let [violation] = violations.as_slice() else { panic!("expected one violation, got {violations:?}") };
    assert_eq!(violation.field, "manifest.input_schema");
    assert!(violation.description.len() <= 1024, "a refusal of {} bytes", violation.description.len());
}
