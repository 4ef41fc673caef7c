//! Between `google.protobuf.Struct` and JSON values.
//!
//! A Struct's numbers are doubles. Whole ones become JSON integers again, so that a guest that is
//! sent 42 reads 42 and not 42.0.

use crate::error::{Error, Result};
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value as ProtoValue};
use serde_json::{Map, Number, Value};

/// Nesting that is still converted; decoding a message stops at about the same depth.
const MAX_DEPTH: usize = 100;

/// A Struct as JSON. NaN and infinities have no JSON form and are refused.
pub fn from_struct(field: &str, message: Struct) -> Result<Map<String, Value>> {
    object(field, message, 0)
}

fn object(field: &str, message: Struct, depth: usize) -> Result<Map<String, Value>> {
    message.fields.into_iter().map(|(key, value)| Ok((key, from_value(field, value, depth + 1)?))).collect()
}

fn from_value(field: &str, value: ProtoValue, depth: usize) -> Result<Value> {
    if depth > MAX_DEPTH {
        return Err(Error::invalid(field, format!("is nested deeper than {MAX_DEPTH} levels")));
    }
    Ok(match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(value),
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::NumberValue(number)) => Value::Number(
            from_double(number).ok_or_else(|| Error::invalid(field, format!("{number} is not a JSON number")))?,
        ),
        Some(Kind::StructValue(message)) => Value::Object(object(field, message, depth)?),
        Some(Kind::ListValue(list)) => Value::Array(
            list.values.into_iter().map(|value| from_value(field, value, depth + 1)).collect::<Result<_>>()?,
        ),
    })
}

fn from_double(number: f64) -> Option<Number> {
    /// Up to here doubles hold every integer.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= EXACT && !(number == 0.0 && number.is_sign_negative()) {
        #[allow(clippy::cast_possible_truncation)] // whole and within 2^53
        return Some(Number::from(number as i64));
    }
    Number::from_f64(number)
}

/// JSON as a protobuf value.
pub fn to_value(value: Value) -> ProtoValue {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(value),
        Value::String(text) => Kind::StringValue(text),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        Value::Object(map) => Kind::StructValue(to_struct(map)),
        Value::Array(values) => Kind::ListValue(ListValue { values: values.into_iter().map(to_value).collect() }),
    };
    ProtoValue { kind: Some(kind) }
}

/// A JSON object as a Struct.
pub fn to_struct(map: Map<String, Value>) -> Struct {
    Struct { fields: map.into_iter().map(|(key, value)| (key, to_value(value))).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_come_back_as_they_were() {
        let value = json!({"a": [1, 2.5, -3, null, true, "x", {"b": {}}], "big": 9007199254740992i64, "neg": -0.5});
        let Value::Object(map) = value else { unreachable!() };
        assert_eq!(from_struct("f", to_struct(map.clone())).unwrap(), map);
    }

    #[test]
    fn what_json_cannot_say_is_refused() {
        for number in [f64::NAN, f64::INFINITY] {
            let message = Struct { fields: [("x".to_owned(), number.into())].into() };
            assert!(matches!(from_struct("f", message), Err(Error::InvalidArgument(_))));
        }
        let mut deep = ProtoValue { kind: None };
        for _ in 0..200 {
            deep = ProtoValue { kind: Some(Kind::ListValue(ListValue { values: vec![deep] })) };
        }
        let message = Struct { fields: [("x".to_owned(), deep)].into() };
        assert!(from_struct("f", message).is_err());
    }
}
