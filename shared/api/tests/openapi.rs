//! The committed OpenAPI document is the one that the code makes.

#[test]
fn the_committed_document_is_current() {
    let committed = include_str!("../../../docs/openapi.json");
    let made = serde_json::to_string_pretty(&slipway_api::document()).unwrap();
    assert!(
        committed.trim_end() == made,
        "docs/openapi.json is stale: cargo run -p slipway-api --example openapi > docs/openapi.json"
    );
}

#[test]
fn every_reference_leads_somewhere_and_every_operation_has_a_name_of_its_own() {
    let document = serde_json::to_value(slipway_api::document()).unwrap();
    let mut references = Vec::new();
    let mut operations = Vec::new();
    walk(&document, &mut |key, value| match key {
        "$ref" => references.push(value.as_str().unwrap().to_owned()),
        "operationId" => operations.push(value.as_str().unwrap().to_owned()),
        _ => {}
    });
    assert!(references.len() > 50, "{} references", references.len());
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    let count = operations.len();
    operations.sort();
    operations.dedup();
    assert_eq!(operations.len(), count, "two operations share a name");
    assert!(count >= 35, "{count} operations");
}

fn walk(value: &serde_json::Value, visit: &mut impl FnMut(&str, &serde_json::Value)) {
    match value {
        serde_json::Value::Object(fields) => {
            for (key, value) in fields {
                // A schema may have a property of any name, with a schema as its value.
                if value.is_string() {
                    visit(key, value);
                }
                walk(value, visit);
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| walk(item, visit)),
        _ => {}
    }
}
