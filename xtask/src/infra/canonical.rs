//! One form for what CloudFormation takes for the same: references become text, and so do scalars.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Names of one template as the other one has them.
pub(super) type Names = BTreeMap<String, String>;

/// A value with `Ref`, `Fn::GetAtt`, `Fn::Sub` and `Fn::Join` without a delimiter as the text `${Name}` or
/// `${Name.Attribute}` that `Fn::Sub` would have, and with numbers and booleans as text. Other functions keep their
/// shape.
pub(super) fn canonical(value: &Value, names: &Names) -> Value {
    match value {
        Value::Null => Value::Null,
        Value::Bool(_) | Value::Number(_) => Value::String(value.to_string()),
        Value::String(text) => Value::String(text.clone()),
        Value::Array(members) => members.iter().map(|member| canonical(member, names)).collect(),
        Value::Object(map) => function(map, names).unwrap_or_else(|| {
            map.iter()
                .map(|(name, member)| (name.clone(), canonical(member, names)))
                .collect()
        }),
    }
}

fn function(map: &Map<String, Value>, names: &Names) -> Option<Value> {
    let (name, argument) = map.iter().next().filter(|_| map.len() == 1)?;
    let text = match (name.as_str(), argument) {
        ("Ref", Value::String(target)) => reference(target, names),
        ("Fn::GetAtt", Value::String(target)) => reference(target, names),
        ("Fn::GetAtt", Value::Array(parts)) => {
            let parts: Option<Vec<_>> = parts.iter().map(Value::as_str).collect();
            reference(&parts?.join("."), names)
        }
        ("Fn::Sub", Value::String(text)) => substituted(text, &Map::new(), names),
        ("Fn::Sub", Value::Array(parts)) => match parts.as_slice() {
            [Value::String(text), Value::Object(variables)] => substituted(text, variables, names),
            _ => return None,
        },
        ("Fn::Join", Value::Array(parts)) => match parts.as_slice() {
            [Value::String(delimiter), Value::Array(members)] if delimiter.is_empty() => {
                let members: Vec<_> = members.iter().map(|member| canonical(member, names)).collect();
                let texts: Option<Vec<_>> = members.iter().map(Value::as_str).collect();
                texts?.concat()
            }
            _ => return None,
        },
        _ => return None,
    };
    Some(Value::String(text))
}

fn reference(target: &str, names: &Names) -> String {
    let (resource, attribute) = match target.split_once('.') {
        Some((resource, attribute)) => (resource, Some(attribute)),
        None => (target, None),
    };
    let resource = names.get(resource).map_or(resource, String::as_str);
    match attribute {
        Some(attribute) => format!("${{{resource}.{attribute}}}"),
        None => format!("${{{resource}}}"),
    }
}

fn substituted(text: &str, variables: &Map<String, Value>, names: &Names) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, behind)) = after.split_once('}') else {
            break;
        };
        result.push_str(before);
        match variables.get(name).map(|value| canonical(value, names)) {
            Some(Value::String(value)) => result.push_str(&value),
            Some(other) => result.push_str(&other.to_string()),
            None => result.push_str(&reference(name, names)),
        }
        rest = behind;
    }
    result.push_str(rest);
    result
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_means_the_same_is_the_same() {
        let names = Names::from([("Layer1a2b".to_owned(), "Layer".to_owned())]);
        for (one, other) in [
            (json!({"Ref": "Table"}), json!({"Fn::Sub": "${Table}"})),
            (
                json!({"Fn::GetAtt": ["Table", "Arn"]}),
                json!({"Fn::GetAtt": "Table.Arn"}),
            ),
            (
                json!({"Fn::Join": ["", [{"Fn::GetAtt": ["Table", "Arn"]}, "/index/", {"Ref": "X"}]]}),
                json!({"Fn::Sub": "${Table.Arn}/index/${X}"}),
            ),
            (
                json!({"Fn::Sub": ["a/${B}/${C}", {"B": {"Ref": "D"}, "C": "*"}]}),
                json!({"Fn::Sub": "a/${D}/*"}),
            ),
            (
                json!({"Fn::Join": ["", ["of ", {"Ref": "A"}]]}),
                json!({"Fn::Sub": "of ${A}"}),
            ),
            (json!([1, true]), json!(["1", "true"])),
            (json!({"Ref": "Layer1a2b"}), json!({"Ref": "Layer"})),
        ] {
            assert_eq!(canonical(&one, &names), canonical(&other, &names), "{one}");
        }
    }

    #[test]
    fn what_differs_stays_different() {
        let names = Names::new();
        for (one, other) in [
            (json!({"Ref": "Table"}), json!({"Fn::GetAtt": ["Table", "Arn"]})),
            (
                json!({"Fn::Join": [",", ["a", "b"]]}),
                json!({"Fn::Join": ["", ["a", "b"]]}),
            ),
            (json!({"Fn::If": ["A", 1, 2]}), json!({"Fn::If": ["A", 2, 1]})),
            (json!(["a", "b"]), json!(["b", "a"])),
        ] {
            assert_ne!(canonical(&one, &names), canonical(&other, &names), "{one}");
        }
    }
}
