//! How values are written: durations `30s`, sizes `64MiB`, counts, switches and lists.
//!
//! Environment variables and flags carry text only, so every form reads its text as well as the type
//! TOML has for it. Errors name what was found and what is expected.

use serde::de::{self, Unexpected, Visitor};
use serde::{Deserializer, Serializer};
use std::fmt;
use std::path::PathBuf;

/// Spans of time: `250ms`, `30s`, `1h 30m`, `7d`.
pub mod duration {
    use super::*;
    use std::time::Duration;

    /// Writes the shortest text that reads back as the same span.
    pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*value))
    }

    /// Reads a span.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        struct Form;
        impl Visitor<'_> for Form {
            type Value = Duration;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a span of time with its unit, such as \"250ms\", \"30s\", \"5m\", \"2h\" or \"7d\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
                humantime::parse_duration(text).map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Form)
    }
}

/// Sizes in bytes: `64MiB`, `1GB`, or a plain number of bytes.
pub mod size {
    use super::*;

    /// Writes the largest binary unit that gives a whole number.
    pub fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&show(*value))
    }

    /// `64MiB`, `1536KiB`, `1000B`: exact, so that what is printed can be put into a file again.
    pub fn show(bytes: u64) -> String {
        const UNITS: [(u64, &str); 4] = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match UNITS.into_iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit)) {
            Some((unit, name)) => format!("{}{name}", bytes / unit),
            None => format!("{bytes}B"),
        }
    }

    /// Reads a size.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        struct Form;
        impl Visitor<'_> for Form {
            type Value = u64;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"64KiB\", \"20MiB\" or \"1GiB\", or a number of bytes")
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<u64, E> {
                Ok(value)
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<u64, E> {
                u64::try_from(value).map_err(|_| E::invalid_value(Unexpected::Signed(value), &self))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
                let size: Result<bytesize::ByteSize, _> = text.parse();
                size.map(|size| size.as_u64()).map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Form)
    }
}

/// Whole numbers: `1024`, `100_000`.
pub mod count {
    use super::*;

    /// Writes a number.
    pub fn serialize<T: Copy + TryInto<u64>, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        let value = (*value).try_into().map_err(|_| serde::ser::Error::custom("a count beyond 64 bits"))?;
        serializer.serialize_u64(value)
    }

    /// Reads a number that fits `T`.
    pub fn deserialize<'de, T: TryFrom<u64>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        struct Form;
        impl Visitor<'_> for Form {
            type Value = u64;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number, 0 or more")
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<u64, E> {
                Ok(value)
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<u64, E> {
                u64::try_from(value).map_err(|_| E::invalid_value(Unexpected::Signed(value), &self))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
                text.replace('_', "").parse().map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        let value = deserializer.deserialize_any(Form)?;
        T::try_from(value).map_err(|_| {
            de::Error::invalid_value(Unexpected::Unsigned(value), &"a smaller number: this one does not fit the key")
        })
    }
}

/// Switches: `true` or `false`.
pub mod switch {
    use super::*;

    /// Writes a switch.
    pub fn serialize<S: Serializer>(value: &bool, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bool(*value)
    }

    /// Reads a switch.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
        struct Form;
        impl Visitor<'_> for Form {
            type Value = bool;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true or false")
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<bool, E> {
                Ok(value)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<bool, E> {
                text.parse().map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Form)
    }
}

/// Socket addresses: `127.0.0.1:9800`, `[::1]:9800`.
pub mod address {
    use super::*;
    use std::net::SocketAddr;

    /// Writes an address.
    pub fn serialize<S: Serializer>(value: &SocketAddr, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    /// Reads an address; host names are not looked up.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
        struct Form;
        impl Visitor<'_> for Form {
            type Value = SocketAddr;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an IP address and a port, such as \"127.0.0.1:9800\", \"0.0.0.0:9800\" or \"[::1]:9800\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<SocketAddr, E> {
                text.parse().map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Form)
    }
}

/// A path that may be left out; empty text leaves it out too, so that a later layer can take it back.
pub mod optional_path {
    use super::*;

    /// Writes the path.
    pub fn serialize<S: Serializer>(value: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(path) => serializer.collect_str(&path.display()),
            None => serializer.serialize_none(),
        }
    }

    /// Reads a path.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
        struct Form;
        impl Visitor<'_> for Form {
            type Value = Option<PathBuf>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path")
            }
            fn visit_none<E: de::Error>(self) -> Result<Self::Value, E> {
                Ok(None)
            }
            fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
                Ok(None)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok((!text.is_empty()).then(|| PathBuf::from(text)))
            }
        }
        deserializer.deserialize_any(Form)
    }
}

/// A budget that may be left out; 0 leaves it out too.
pub mod budget {
    use super::*;

    /// Writes the budget.
    pub fn serialize<S: Serializer>(value: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.serialize_u64(*value),
            None => serializer.serialize_none(),
        }
    }

    /// Reads a budget.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
        struct Form;
        impl Visitor<'_> for Form {
            type Value = Option<u64>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number of fuel units; 0 means not metered")
            }
            fn visit_none<E: de::Error>(self) -> Result<Self::Value, E> {
                Ok(None)
            }
            fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
                Ok(None)
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
                Ok((value != 0).then_some(value))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
                match u64::try_from(value) {
                    Ok(value) => self.visit_u64(value),
                    Err(_) => Err(E::invalid_value(Unexpected::Signed(value), &self)),
                }
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                match text.replace('_', "").parse() {
                    Ok(value) => self.visit_u64(value),
                    Err(_) => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(Form)
    }
}

/// Lists of paths: an array, or text with the paths separated by commas.
pub mod paths {
    use super::*;
    use serde::ser::SerializeSeq;

    /// Writes an array.
    pub fn serialize<S: Serializer>(value: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(value.len()))?;
        for path in value {
            list.serialize_element(&path.display().to_string())?;
        }
        list.end()
    }

    /// Reads a list.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = Vec<PathBuf>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of paths")
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut paths = Vec::new();
                while let Some(path) = list.next_element::<PathBuf>()? {
                    paths.push(path);
                }
                Ok(paths)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(text.split(',').map(str::trim).filter(|path| !path.is_empty()).map(PathBuf::from).collect())
            }
        }
        deserializer.deserialize_any(Form)
    }
}

/// Lists of text: an array, or text with the entries separated by commas.
pub mod texts {
    use super::*;
    use serde::Serialize;

    /// Writes an array.
    pub fn serialize<S: Serializer>(value: &[String], serializer: S) -> Result<S::Ok, S::Error> {
        value.serialize(serializer)
    }

    /// Reads a list.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = Vec<String>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of texts")
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = list.next_element()? {
                    texts.push(text);
                }
                Ok(texts)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(text.split(',').map(str::trim).filter(|text| !text.is_empty()).map(String::from).collect())
            }
        }
        deserializer.deserialize_any(Form)
    }
}
