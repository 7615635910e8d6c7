//! As much of JSON Schema as `report/schema.json` uses; a keyword that is not known here is a fault.

use serde_json::Value;

/// What is wrong with `value`; empty if nothing is.
pub fn faults(schema: &Value, value: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    check(schema, schema, value, "$", &mut faults);
    faults
}

fn check(root: &Value, schema: &Value, value: &Value, path: &str, faults: &mut Vec<String>) {
    let mut wrong = |what: String| faults.push(format!("{path}: {what}"));
    for (keyword, rule) in schema.as_object().expect("a schema is an object") {
        match keyword.as_str() {
            "$schema" | "$id" | "$defs" | "title" | "description" => {}
            "type" => {
                let kinds = rule.as_array().map_or(vec![rule], |kinds| kinds.iter().collect());
                if !kinds.iter().any(|kind| is(value, kind.as_str().unwrap())) {
                    wrong(format!("{value} is no {rule}"));
                }
            }
            "const" if value != rule => wrong(format!("{value} is not {rule}")),
            "enum" if !rule.as_array().unwrap().contains(value) => wrong(format!("{value} is none of {rule}")),
            "minimum" if value.as_f64().is_some_and(|number| number < rule.as_f64().unwrap()) => {
                wrong(format!("{value} is below {rule}"));
            }
            "const" | "enum" | "minimum" => {}
            // It says something about objects alone (JSON Schema validation, 6.5.3).
            "required" if !value.is_object() => {}
            "required" => {
                for name in rule.as_array().unwrap() {
                    if value.get(name.as_str().unwrap()).is_none() {
                        wrong(format!("{name} is missing"));
                    }
                }
            }
            "$ref" | "properties" | "additionalProperties" | "items" => {}
            other => panic!("the keyword {other} is not known to this check"),
        }
    }
    if let Some(name) = schema.get("$ref") {
        let target = root.pointer(name.as_str().unwrap().strip_prefix('#').unwrap());
        check(root, target.expect("the reference leads somewhere"), value, path, faults);
    }
    let named = schema.get("properties");
    for (name, part) in value.as_object().into_iter().flatten() {
        let rule = named.and_then(|named| named.get(name)).or(schema.get("additionalProperties"));
        if let Some(rule) = rule {
            check(root, rule, part, &format!("{path}.{name}"), faults);
        }
    }
    if let Some(rule) = schema.get("items") {
        for (at, part) in value.as_array().into_iter().flatten().enumerate() {
            check(root, rule, part, &format!("{path}[{at}]"), faults);
        }
    }
}

fn is(value: &Value, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        "null" => value.is_null(),
        other => panic!("the type {other} is not known to this check"),
    }
}
