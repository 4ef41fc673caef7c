//! JSON Schemas of tools: compiled once, never fetching anything.

mod cost;

use crate::error::{Error, Result, Violation};
use cost::Cost;
use jsonschema::{Draft, Validator};
use serde_json::Value;

/// Problems reported for one document at most.
const MAX_PROBLEMS: usize = 50;
/// Length of one problem's text at most; the instance is in it and may be large.
const MAX_TEXT: usize = 300;
/// Bytes of all problems of one document together: they travel in the trailers of an answer, where clients take 8 KiB.
const MAX_TOLD: usize = 3 << 10;
/// Length of a pointer at most; its keys are the document's.
const MAX_POINTER: usize = 1 << 10;

/// A compiled schema.
#[derive(Debug)]
pub struct Schema {
    validator: Validator,
    cost: Cost,
}

/// One problem: where in the document, and what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// JSON pointer, empty for the whole document; where it would be longer than 1 KiB, one to what is around.
    pub pointer: String,
    /// What was expected.
    pub text: String,
}

impl Schema {
    /// Compiles a schema of draft 2020-12. `field` is where it came from, for the error.
    pub fn compile(tool: &str, field: &str, schema: &Value) -> Result<Schema> {
        let refuse = |text: String| Error::ManifestInvalid {
            tool: tool.into(),
            violations: vec![Violation::new(format!("manifest.{field}"), text)],
        };
        if !schema.is_object() && !schema.is_boolean() {
            return Err(refuse("a JSON Schema is an object or a boolean".into()));
        }
        let cost = Cost::of(schema).map_err(refuse)?;
        let validator = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .should_validate_formats(true)
            .should_ignore_unknown_formats(true)
            .build(schema)
            .map_err(|error| {
                let at = error.instance_path().to_string();
                refuse(format!("not a valid JSON Schema 2020-12 at {:?}: {}", shorten(at), shorten(error.to_string())))
            })?;
        Ok(Schema { validator, cost })
    }

    /// Checks a document; every problem, up to a bound. Where telling them would take too long, one for the whole.
    pub fn check(&self, document: &Value) -> std::result::Result<(), Vec<Problem>> {
        // The quick answer first: nearly every document is right.
        if self.validator.is_valid(document) {
            return Ok(());
        }
        if !self.cost.can_tell(document) {
            let text = "does not satisfy the schema; in a document this large, or this deep for a schema that returns to \
                        itself, where is not told";
            return Err(vec![Problem { pointer: String::new(), text: text.into() }]);
        }
        let mut size = 0;
        Err(self
            .validator
            .iter_errors(document)
            .take(MAX_PROBLEMS)
            .map(|error| Problem {
                pointer: around(error.instance_path().to_string()),
                text: shorten(error.to_string()),
            })
            .take_while(|problem| {
                size += problem.pointer.len() + problem.text.len();
                size <= MAX_TOLD
            })
            .collect())
    }
}

/// The pointer, or the longest one within bounds to a value that its place is in.
fn around(mut pointer: String) -> String {
    if pointer.len() > MAX_POINTER {
        let end = pointer.as_bytes()[..=MAX_POINTER].iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        pointer.truncate(end);
    }
    pointer
}

/// At most [`MAX_TEXT`] bytes of a text, and an ellipsis for the rest.
pub(super) fn shorten(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        text.truncate(text.floor_char_boundary(MAX_TEXT));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_problem_has_its_pointer() {
        let schema = Schema::compile(
            "t",
            "input_schema",
            &json!({"type": "object", "required": ["a"], "properties": {"b": {"items": {"type": "integer"}}}}),
        )
        .unwrap();
        schema.check(&json!({"a": 1, "b": [1, 2]})).unwrap();
        let problems = schema.check(&json!({"b": [1, "x"]})).unwrap_err();
        let pointers: Vec<&str> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
        assert!(pointers.contains(&"") && pointers.contains(&"/b/1"), "{problems:?}");
    }

    #[test]
    fn references_to_elsewhere_and_nonsense_are_refused() {
        for schema in [
            json!({"$ref": "https://example.com/schema.json"}),
            json!({"$ref": "file:///etc/passwd"}),
            json!({"type": "objekt"}),
            json!(7),
        ] {
            assert!(
                matches!(Schema::compile("t", "input_schema", &schema), Err(Error::ManifestInvalid { .. })),
                "{schema}"
            );
        }
    }

    #[test]
    fn a_schema_of_2020_12_may_refer_to_itself() {
        let schema = Schema::compile(
            "t",
            "input_schema",
            &json!({"$defs": {"node": {"properties": {"next": {"$ref": "#/$defs/node"}}, "type": "object"}}, "$ref": "#/$defs/node"}),
        )
        .unwrap();
        assert!(schema.check(&json!({"next": {"next": 3}})).is_err());
    }

    #[test]
    fn problems_are_short_however_large_the_document() {
        let schema = json!({"additionalProperties": {"items": {"type": "string"}}, "propertyNames": {"maxLength": 3}});
        let schema = Schema::compile("t", "input_schema", &schema).unwrap();
        let document = json!({"a/b".repeat(50_000): vec![1; 1000], "c": vec![2; 1000]});
        let problems = schema.check(&document).unwrap_err();
        let size: usize = problems.iter().map(|problem| problem.pointer.len() + problem.text.len()).sum();
        assert!(!problems.is_empty() && size <= MAX_TOLD, "{size} bytes");
        assert!(problems.iter().all(|problem| document.pointer(&problem.pointer).is_some()), "{problems:?}");

        let schema = json!({"properties": {"x".repeat(100_000): {"type": "objekt"}}});
        let Err(error) = Schema::compile("t", "input_schema", &schema) else { panic!("expected a refusal") };
        assert!(error.to_string().len() < 1024);
    }

    fn chain(length: usize, link: impl Fn(Value) -> Value) -> Value {
        let mut definitions = serde_json::Map::new();
        for at in 0..length {
            definitions.insert(format!("a{at}"), link(json!({ "$ref": format!("#/$defs/a{}", at + 1) })));
        }
        definitions.insert(format!("a{length}"), json!({"type": "string"}));
        json!({"$ref": "#/$defs/a0", "$defs": definitions})
    }

    #[test]
    fn a_schema_that_multiplies_or_never_ends_is_refused() {
        for schema in [
            chain(26, |next| json!({"allOf": [next.clone(), next]})),
            chain(26, |next| json!({"properties": {"a": next.clone(), "b": next}})),
            chain(3000, |next| next),
            json!({"$ref": "#"}),
            json!({"allOf": [{"$ref": "#/%61llOf/0"}]}),
            json!({"additionalProperties": {"$ref": "#/$defs/a"}, "allOf": [{"$ref": "#/$defs/a"}],
                   "$defs": {"a": {"dependentSchemas": {"x": {"$ref": "#"}}}}}),
            json!({"$dynamicAnchor": "a", "not": {"$dynamicRef": "#a"}}),
            json!({"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}}}),
        ] {
            assert!(Schema::compile("t", "input_schema", &schema).is_err(), "{schema}");
        }
        let schema = Schema::compile("t", "input_schema", &chain(8, |next| json!({"allOf": [next.clone(), next]})));
        assert!(schema.unwrap().check(&json!(1)).is_err());
        Schema::compile("t", "input_schema", &chain(100, |next| next)).unwrap().check(&json!("x")).unwrap();
    }

    #[test]
    fn a_deep_document_is_refused_without_going_down_every_branch() {
        let branch = json!({"properties": {"a": {"$ref": "#/$defs/node"}}});
        let schema =
            json!({"$defs": {"node": {"type": "object", "anyOf": [branch.clone(), branch]}}, "$ref": "#/$defs/node"});
        let schema = Schema::compile("t", "input_schema", &schema).unwrap();
        let nested = |depth| (0..depth).fold(json!(1), |inner, _| json!({ "a": inner }));
        assert!(schema.check(&nested(100)).unwrap_err()[0].text.contains("where is not told"));
        assert!(!schema.check(&nested(6)).unwrap_err()[0].text.contains("where is not told"));
        let good = (0..100).fold(json!({}), |inner, _| json!({ "a": inner }));
        schema.check(&good).unwrap();
        // Nor is a problem made for each of very many values.
        let strings = Schema::compile("t", "input_schema", &json!({"items": {"type": "string"}})).unwrap();
        assert!(strings.check(&json!(vec![1; 1_000_000])).unwrap_err()[0].text.contains("where is not told"));
        // One way down is no matter how deep.
        let list = json!({"properties": {"next": {"$ref": "#"}, "id": {"type": "integer"}}});
        let list = Schema::compile("t", "input_schema", &list).unwrap();
        let found = (0..100).fold(json!({"id": "x"}), |inner, _| json!({ "next": inner }));
        assert!(list.check(&found).unwrap_err()[0].pointer.ends_with("/next/id"));
    }
}
