//! Between JSON and `google.protobuf.Struct`.

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value as Message};
use serde_json::{Map, Number, Value};

/// Up to here doubles hold every integer.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A Struct as JSON; whole numbers become integers again.
pub fn object(message: &Struct) -> Value {
    Value::Object(message.fields.iter().map(|(key, value)| (key.clone(), json(value))).collect())
}

fn json(message: &Message) -> Value {
    match &message.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(*value),
        Some(Kind::StringValue(text)) => Value::String(text.clone()),
        Some(Kind::NumberValue(number)) if number.fract() == 0.0 && number.abs() <= EXACT => {
            #[allow(clippy::cast_possible_truncation)] // whole and within 2^53
            Value::Number(Number::from(*number as i64))
        }
        // NaN and infinities have no JSON form.
        Some(Kind::NumberValue(number)) => Number::from_f64(*number).map_or(Value::Null, Value::Number),
        Some(Kind::StructValue(message)) => object(message),
        Some(Kind::ListValue(list)) => Value::Array(list.values.iter().map(json).collect()),
    }
}

/// A JSON object as a Struct.
pub fn message(map: &Map<String, Value>) -> Struct {
    Struct { fields: map.iter().map(|(key, value)| (key.clone(), value_message(value))).collect() }
}

fn value_message(value: &Value) -> Message {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(values) => Kind::ListValue(ListValue { values: values.iter().map(value_message).collect() }),
        Value::Object(map) => Kind::StructValue(message(map)),
    };
    Message { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_survives_the_way_there_and_back() {
        let value = serde_json::json!({"a": [1, 2.5, null, true, "x", {"b": {}}], "c": -9007199254740992i64});
        assert_eq!(object(&message(value.as_object().unwrap())), value);
    }
}
