//! What a schema can cost. The validator goes through a schema as a tree: what is referred to twice is compiled and
//! asked twice, and to tell what is wrong with a document it goes down every branch, for every level of the document.
//! So a few hundred bytes can take hours and all memory. Bounds are set here, before that: counts of the tree, without
//! building it.

use serde_json::Value;
use std::collections::HashMap;

/// Nodes of the tree at most.
const MAX_NODES: u64 = 100_000;
/// Schemas within schemas at most, through references too: the validator recurses over them.
const MAX_DEPTH: usize = 256;
/// Nodes looked at to tell what is wrong with a document, at most; each may leave a problem of some hundred bytes. Beyond
/// it is told only that the document is wrong.
const MAX_TELLING: u64 = 1_000_000;

/// Keywords whose schemas apply to the same value as the schema they stand in; and by name, `dependentSchemas`.
const IN_PLACE: [&str; 7] = ["allOf", "anyOf", "oneOf", "not", "if", "then", "else"];
/// Keywords that hold schemas for references only.
const DEFINITIONS: [&str; 2] = ["$defs", "definitions"];
const REFERENCES: [&str; 2] = ["$ref", "$dynamicRef"];

/// Counts of a schema as a tree.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cost {
    nodes: u64,
    /// Places at which it begins anew.
    returns: u64,
    height: usize,
}

impl Cost {
    /// Counts, or says why the schema is refused.
    pub(super) fn of(schema: &Value) -> Result<Cost, String> {
        let mut walk = Walk { root: schema, names: HashMap::new(), known: HashMap::new(), found: Vec::new() };
        walk.name(schema);
        let cost = walk.count(schema, 0)?;
        if cost.height > MAX_DEPTH {
            return Err(too_deep());
        }
        if cost.nodes > MAX_NODES {
            return Err(format!("with its references written out it has {} schemas; at most {MAX_NODES}", cost.nodes));
        }
        let mut ends = HashMap::new();
        walk.found.iter().try_for_each(|schema| walk.ends(schema, &mut ends, 0))?;
        Ok(cost)
    }

    /// Whether going down every branch for this document stays within bounds.
    pub(super) fn can_tell(&self, document: &Value) -> bool {
        let (values, depth) = extent(document);
        let levels = self.returns.saturating_pow(depth).max(1);
        self.nodes.saturating_mul(levels).saturating_mul(values) <= MAX_TELLING
    }
}

/// How many values a document has, and how deep they lie.
fn extent(value: &Value) -> (u64, u32) {
    let join = |(values, depth): (u64, u32), member: &Value| {
        let (more, deep) = extent(member);
        (values + more, depth.max(deep + 1))
    };
    match value {
        Value::Array(members) => members.iter().fold((1, 0), join),
        Value::Object(members) => members.values().fold((1, 0), join),
        _ => (1, 0),
    }
}

fn too_deep() -> String {
    format!("its schemas are nested deeper than {MAX_DEPTH}, references followed")
}

struct Walk<'a> {
    root: &'a Value,
    names: HashMap<&'a str, &'a Value>,
    /// Counts by address, for equal schemas in two places are two; `None` while the count is under way.
    known: HashMap<*const Value, Option<Cost>>,
    /// What was counted.
    found: Vec<&'a Value>,
}

impl<'a> Walk<'a> {
    fn name(&mut self, value: &'a Value) {
        match value {
            Value::Object(members) => {
                for key in ["$anchor", "$dynamicAnchor", "$id"] {
                    if let Some(name) = members.get(key).and_then(Value::as_str) {
                        self.names.insert(name.trim_end_matches('#'), value);
                    }
                }
                members.values().for_each(|member| self.name(member));
            }
            Value::Array(values) => values.iter().for_each(|value| self.name(value)),
            _ => {}
        }
    }

    /// The schema that a reference names. One that is not found counts as a return to the beginning.
    fn target(&self, reference: &str) -> &'a Value {
        let (document, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let document = if document.is_empty() { Some(self.root) } else { self.names.get(document).copied() };
        let found = document.and_then(|document| match fragment {
            "" => Some(document),
            _ if fragment.starts_with('/') => document.pointer(&unescaped(fragment)),
            name => self.names.get(name).copied(),
        });
        found.unwrap_or(self.root)
    }

    fn count(&mut self, schema: &'a Value, depth: usize) -> Result<Cost, String> {
        if depth > MAX_DEPTH {
            return Err(too_deep());
        }
        let parts: Vec<&'a Value> = match schema {
            Value::Array(values) => values.iter().collect(),
            Value::Object(members) => members
                .iter()
                .filter(|(key, _)| !DEFINITIONS.contains(&key.as_str()))
                .map(|(key, member)| self.referred(key, member).unwrap_or(member))
                .collect(),
            _ => return Ok(Cost::default()),
        };
        match self.known.insert(schema, None) {
            Some(Some(counted)) => {
                self.known.insert(schema, Some(counted));
                return Ok(counted);
            }
            Some(None) => return Ok(Cost { nodes: 1, returns: 1, height: 1 }),
            None => self.found.push(schema),
        }
        let mut sum = Cost { nodes: 1, returns: 0, height: 0 };
        for part in parts {
            let cost = self.count(part, depth + 1)?;
            sum.nodes = sum.nodes.saturating_add(cost.nodes);
            sum.returns = sum.returns.saturating_add(cost.returns);
            sum.height = sum.height.max(cost.height);
        }
        sum.height += 1;
        self.known.insert(schema, Some(sum));
        Ok(sum)
    }

    fn referred(&self, key: &str, member: &Value) -> Option<&'a Value> {
        let reference = member.as_str().filter(|_| REFERENCES.contains(&key))?;
        Some(self.target(reference))
    }

    /// Checks that a schema does not apply itself again to the same value. `ends` is false for those under way.
    fn ends(&self, schema: &'a Value, ends: &mut HashMap<*const Value, bool>, depth: usize) -> Result<(), String> {
        let Value::Object(members) = schema else { return Ok(()) };
        match ends.get(&std::ptr::from_ref(schema)) {
            Some(true) => return Ok(()),
            Some(false) => return Err("it refers to itself for the same value, without end".into()),
            None if depth > MAX_DEPTH => return Err(too_deep()),
            None => ends.insert(schema, false),
        };
        for (key, member) in members {
            match member {
                Value::String(_) => {
                    self.referred(key, member).map_or(Ok(()), |part| self.ends(part, ends, depth + 1))?
                }
                Value::Array(parts) if IN_PLACE.contains(&key.as_str()) => {
                    parts.iter().try_for_each(|part| self.ends(part, ends, depth + 1))?;
                }
                Value::Object(parts) if key == "dependentSchemas" => {
                    parts.values().try_for_each(|part| self.ends(part, ends, depth + 1))?;
                }
                _ if IN_PLACE.contains(&key.as_str()) => self.ends(member, ends, depth + 1)?,
                _ => {}
            }
        }
        ends.insert(schema, true);
        Ok(())
    }
}

/// A JSON pointer out of a fragment of a URI.
fn unescaped(fragment: &str) -> String {
    let mut bytes = Vec::with_capacity(fragment.len());
    let mut rest = fragment.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = (first == b'%').then(|| after.get(..2)).flatten().and_then(|digits| hex::decode(digits).ok());
        match escaped {
            Some(byte) => {
                bytes.extend(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
