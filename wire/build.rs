//! Compiles the schema with protox, so that building needs no `protoc`.
//!
//! The generated structs are the only message types of the house: they carry the serde attributes of the JSON form.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let schema = "proto/roost.proto";
    println!("cargo::rerun-if-changed={schema}");
    let descriptors = protox::compile([schema], ["proto"])?;

    let mut config = prost_build::Config::new();
    // Frame and its oneof have serializers of their own (src/json.rs): `{"rid":1,"send":{…}}`.
    for message in descriptors.file.iter().flat_map(|file| &file.message_type) {
        if message.name() != "Frame" {
            let path = format!(".roost.v1.{}", message.name());
            config.type_attribute(&path, "#[derive(serde::Serialize, serde::Deserialize)]");
            config.type_attribute(&path, "#[serde(default)]");
        }
    }
    for (field, module) in [
        ("Create.kind", "kind"),
        ("Conversation.kind", "kind"),
        ("Row.kind", "kind"),
        ("Member.role", "role"),
        ("Row.role", "role"),
        ("Event.role", "role"),
        ("Event.kind", "event_kind"),
    ] {
        config.field_attribute(
            format!(".roost.v1.{field}"),
            format!("#[serde(with = \"crate::json::{module}\")]"),
        );
    }
    let skip = |test: &str| format!("#[serde(skip_serializing_if = \"{test}\")]");
    for (field, test) in [
        ("Error.retry_after_ms", "crate::json::is_zero_u32"),
        ("Body.event", "Option::is_none"),
        ("Row.last", "Option::is_none"),
        ("Row.peer", "Option::is_none"),
        ("Row.left", "std::ops::Not::not"),
        ("Member.name", "String::is_empty"),
        ("Send.attempt", "crate::json::is_zero_u32"),
        ("Send.seen", "Option::is_none"),
        ("Publish.attempt", "crate::json::is_zero_u32"),
        ("Publish.seen", "Option::is_none"),
        ("Publish.cmid", "String::is_empty"),
        ("Connect.token", "String::is_empty"),
        ("Connect.guest", "String::is_empty"),
        ("Connect.sync", "String::is_empty"),
        ("Typing.user", "String::is_empty"),
        ("History.after", "Option::is_none"),
        ("History.before", "Option::is_none"),
        ("Update.name", "Option::is_none"),
        ("Update.open", "Option::is_none"),
        ("Event.name", "String::is_empty"),
        ("Event.role", "crate::json::is_zero_i32"),
        ("Member.role", "crate::json::is_zero_i32"),
        ("Row.role", "crate::json::is_zero_i32"),
    ] {
        config.field_attribute(format!(".roost.v1.{field}"), skip(test));
    }
    config.compile_fds(descriptors)?;
    Ok(())
}
