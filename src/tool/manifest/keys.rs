//! The keys of a manifest file.

use bytesize::ByteSize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) description: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) version: String,
    pub(super) runtime: RuntimeKey,
    pub(super) output: OutputKey,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_concurrent: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) credentials: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) environment: BTreeMap<String, String>,
    pub(super) limits: Keyed<LimitsKeys>,
    pub(super) network: Keyed<NetworkKeys>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) directories: Vec<Keyed<DirectoryKeys>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) input_schema: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) output_schema: Option<Value>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RuntimeKey {
    #[default]
    Wasm,
    Container,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum OutputKey {
    #[default]
    Auto,
    Json,
    Text,
    Bytes,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LimitsKeys {
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub(super) wall_time: Option<Duration>,
    #[serde(serialize_with = "bytes", skip_serializing_if = "Option::is_none")]
    pub(super) memory: Option<ByteSize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) table_elements: Option<u64>,
    #[serde(serialize_with = "bytes", skip_serializing_if = "Option::is_none")]
    pub(super) stack: Option<ByteSize>,
    #[serde(serialize_with = "bytes", skip_serializing_if = "Option::is_none")]
    pub(super) output: Option<ByteSize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) host_calls: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fuel: Option<u64>,
    #[serde(serialize_with = "bytes", skip_serializing_if = "Option::is_none")]
    pub(super) scratch: Option<ByteSize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) child_executions: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) child_depth: Option<u32>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct NetworkKeys {
    pub(super) allow: Vec<String>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DirectoryKeys {
    pub(super) host: PathBuf,
    pub(super) guest: String,
    #[serde(default)]
    pub(super) writable: bool,
}

/// Exactly: the words of `ByteSize`, "95.4 MiB", are rounded.
fn bytes<S: Serializer>(size: &Option<ByteSize>, serializer: S) -> Result<S::Ok, S::Error> {
    size.map(|size| size.0).serialize(serializer)
}

/// Read by its keys only. Derived structs are also read from arrays, by position: then `limits = []` would pass, and
/// a directory would be granted by an entry that names nothing.
#[derive(Debug, Default)]
pub(super) struct Keyed<T>(pub(super) T);

impl<T: Serialize> Serialize for Keyed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Keyed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ByKey(PhantomData))
    }
}

struct ByKey<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ByKey<T> {
    type Value = Keyed<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of keys")
    }

    fn visit_map<A: MapAccess<'de>>(self, keys: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(keys)).map(Keyed)
    }
}
