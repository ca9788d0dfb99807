use super::*;
use prost_reflect::Kind;
use std::collections::BTreeSet;

/// All values of these members, anywhere in the document.
fn all<'a>(name: &str, value: &'a Value, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get(name));
            members.values().for_each(|value| all(name, value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| all(name, value, found)),
        _ => {}
    }
}

#[test]
fn every_method_and_every_field_is_described() {
    let document = build();
    let methods: Vec<_> = contracts().services().flat_map(|it| it.methods().collect::<Vec<_>>()).collect();
    assert_eq!(document["paths"].as_object().unwrap().len(), methods.len());
    for method in methods {
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let operations = document["paths"][&path].as_object().unwrap();
        assert_eq!(operations.len(), 1 + usize::from(only_reads(&method)), "{path}");
        for operation in operations.values() {
            assert!(!operation["summary"].as_str().unwrap().is_empty(), "{path}");
            assert!(!operation["summary"].as_str().unwrap().contains('\n'), "{path}");
        }
    }
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        assert!(!schema["description"].as_str().unwrap().is_empty(), "{name}");
        for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
            assert!(!schema["description"].as_str().unwrap().is_empty(), "{name}.{field}");
        }
    }
}

#[test]
fn references_lead_to_schemas_and_ids_are_unique() {
    let document = build();
    let mut references = Vec::new();
    all("$ref", &document, &mut references);
    assert!(references.len() > 100, "{}", references.len());
    for reference in references {
        let pointer = reference.as_str().unwrap().strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some_and(|it| !it.is_null()), "{pointer}");
    }
    let mut ids = Vec::new();
    all("operationId", &document, &mut ids);
    let unique: BTreeSet<_> = ids.iter().map(|id| id.as_str().unwrap()).collect();
    assert_eq!(unique.len(), ids.len());
}

#[test]
fn requests_have_no_other_fields_and_answers_may() {
    let schemas = &build()["components"]["schemas"];
    assert_eq!(schemas["talaria.v1.DeliveryFilter"]["additionalProperties"], false);
    assert_eq!(schemas["talaria.v1.VideoRequest"]["additionalProperties"], false);
    assert!(schemas["talaria.v1.GetSummaryResponse"].get("additionalProperties").is_none());
    let explain = schemas["talaria.v1.ExplainRequest"]["description"].as_str().unwrap();
    assert!(explain.ends_with("At most one of `eventId`, `deliveryId`, `jobId`."), "{explain}");
}

#[test]
fn no_other_well_known_message_is_used() {
    for message in contracts().all_messages().filter(|it| it.package_name() == "talaria.v1") {
        for field in message.fields() {
            if let Kind::Message(inner) = field.kind() {
                let known =
                    ["google.protobuf.Timestamp", "google.protobuf.Duration"].contains(&inner.full_name());
                assert!(
                    known || inner.package_name() == "talaria.v1",
                    "{}: give it a schema",
                    field.full_name()
                );
            }
        }
    }
}

#[test]
fn the_document_is_the_same_each_time() {
    assert_eq!(build().to_string(), build().to_string());
    assert_eq!(document(), build().to_string());
}
