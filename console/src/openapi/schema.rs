//! Messages and enums as JSON Schema, in the form that protobuf's JSON has.
//!
//! Protobuf reads more forms than it writes, such as numbers as text. The schemas have the written form.

use super::comments::Comments;
use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// The schemas of the messages that were named, and of the messages and enums in them.
pub(super) struct Schemas<'a> {
    comments: &'a Comments,
    by_name: BTreeMap<String, Value>,
    /// The messages within requests, in which an unknown field is an error.
    requests: BTreeSet<String>,
}

impl<'a> Schemas<'a> {
    pub(super) fn new(comments: &'a Comments) -> Self {
        Self { comments, by_name: BTreeMap::new(), requests: BTreeSet::new() }
    }

    pub(super) fn request(&mut self, message: &MessageDescriptor) {
        if self.requests.insert(message.full_name().to_owned()) {
            self.answer(message);
            for field in message.fields() {
                if let Kind::Message(inner) = value_kind(&field)
                    && well_known(&inner).is_none()
                {
                    self.request(&inner);
                }
            }
        }
    }

    pub(super) fn answer(&mut self, message: &MessageDescriptor) {
        if self.by_name.contains_key(message.full_name()) {
            return;
        }
        // Before its fields, because a message may be within itself.
        self.by_name.insert(message.full_name().to_owned(), Value::Null);
        let properties: Map<String, Value> =
            message.fields().map(|field| (field.json_name().to_owned(), self.field(&field))).collect();
        let mut about = self.comments.at(&message.parent_file(), message.path());
        for oneof in message.oneofs().filter(|oneof| !oneof.is_synthetic()) {
            let names: Vec<String> = oneof.fields().map(|field| format!("`{}`", field.json_name())).collect();
            about += &format!("\n\nAt most one of {}.", names.join(", "));
        }
        let schema = json!({"type": "object", "description": about, "properties": properties});
        self.by_name.insert(message.full_name().to_owned(), schema);
    }

    pub(super) fn finish(self) -> Map<String, Value> {
        let Self { by_name, requests, .. } = self;
        let close = |(name, mut schema): (String, Value)| {
            if let (true, Some(schema)) = (requests.contains(&name), schema.as_object_mut()) {
                schema.insert("additionalProperties".into(), false.into());
            }
            (name, schema)
        };
        by_name.into_iter().map(close).collect()
    }

    fn field(&mut self, field: &FieldDescriptor) -> Value {
        let one = self.kind(&value_kind(field));
        let mut schema = if field.is_map() {
            json!({"type": "object", "additionalProperties": one})
        } else if field.is_list() {
            json!({"type": "array", "items": one})
        } else {
            one
        };
        let about = self.comments.at(&field.parent_file(), field.path());
        if let Some(schema) = schema.as_object_mut() {
            schema.insert("description".into(), about.into());
        }
        schema
    }

    fn kind(&mut self, kind: &Kind) -> Value {
        match kind {
            Kind::Bool => json!({"type": "boolean"}),
            Kind::String => json!({"type": "string"}),
            Kind::Bytes => json!({"type": "string", "contentEncoding": "base64"}),
            Kind::Double | Kind::Float => json!({"type": "number"}),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
                json!({"type": "integer", "minimum": i32::MIN, "maximum": i32::MAX})
            }
            Kind::Uint32 | Kind::Fixed32 => json!({"type": "integer", "minimum": 0, "maximum": u32::MAX}),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
                json!({"type": "string", "format": "int64", "pattern": "^-?[0-9]{1,19}$"})
            }
            Kind::Uint64 | Kind::Fixed64 => {
                json!({"type": "string", "format": "uint64", "pattern": "^[0-9]{1,20}$"})
            }
            Kind::Enum(descriptor) => {
                self.enumeration(descriptor);
                reference(descriptor.full_name())
            }
            Kind::Message(message) => well_known(message).unwrap_or_else(|| {
                self.answer(message);
                reference(message.full_name())
            }),
        }
    }

    fn enumeration(&mut self, descriptor: &EnumDescriptor) {
        if self.by_name.contains_key(descriptor.full_name()) {
            return;
        }
        let mut about = self.comments.at(&descriptor.parent_file(), descriptor.path()) + "\n";
        for value in descriptor.values() {
            let text = self.comments.at(&value.parent_file(), value.path());
            about += &format!("\n- `{}`: {}", value.name(), text.replace('\n', " "));
        }
        let names: Vec<String> = descriptor.values().map(|value| value.name().to_owned()).collect();
        let schema = json!({"type": "string", "enum": names, "description": about});
        self.by_name.insert(descriptor.full_name().to_owned(), schema);
    }
}

/// The kind of a field's value, in a map or a list of each one.
fn value_kind(field: &FieldDescriptor) -> Kind {
    match field.kind() {
        Kind::Message(entry) if field.is_map() => entry.map_entry_value_field().kind(),
        kind => kind,
    }
}

/// Protobuf's own messages with a JSON form of their own.
fn well_known(message: &MessageDescriptor) -> Option<Value> {
    match message.full_name() {
        "google.protobuf.Timestamp" => Some(json!({"type": "string", "format": "date-time"})),
        "google.protobuf.Duration" => {
            Some(json!({"type": "string", "pattern": "^-?[0-9]{1,12}(\\.[0-9]{1,9})?s$"}))
        }
        _ => None,
    }
}
