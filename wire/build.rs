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
        config.field_attribute(format!(".roost.v1.{field}"), format!("#[serde(with = \"crate::json::{module}\")]"));
    }
    // Absent is left out, not null.
    for message in &descriptors.file[0].message_type {
        for field in &message.field {
            let single =
                field.r#type().as_str_name() == "TYPE_MESSAGE" && field.label().as_str_name() != "LABEL_REPEATED";
            if (single && message.name() != "Frame") || field.proto3_optional() {
                let path = format!(".roost.v1.{}.{}", message.name(), field.name());
                config.field_attribute(path, "#[serde(skip_serializing_if = \"Option::is_none\")]");
            }
        }
    }
    // Fields that mean nothing when they hold their default are left out too; the others always stand there, so that
    // a reader in a language without defaults finds them.
    for (field, test) in [
        ("Error.retry_after_ms", "crate::json::is_zero_u32"),
        ("Row.left", "std::ops::Not::not"),
        ("Member.name", "String::is_empty"),
        ("Send.attempt", "crate::json::is_zero_u32"),
        ("Publish.attempt", "crate::json::is_zero_u32"),
        ("Publish.cmid", "String::is_empty"),
        ("Connect.token", "String::is_empty"),
        ("Connect.guest", "String::is_empty"),
        ("Connect.sync", "String::is_empty"),
        ("Typing.user", "String::is_empty"),
        ("Event.name", "String::is_empty"),
        ("Event.role", "crate::json::is_no_role"),
        ("Member.role", "crate::json::is_no_role"),
        ("Member.delivered", "crate::json::is_zero_u64"),
        ("Member.read", "crate::json::is_zero_u64"),
        ("Row.role", "crate::json::is_no_role"),
    ] {
        config.field_attribute(format!(".roost.v1.{field}"), format!("#[serde(skip_serializing_if = \"{test}\")]"));
    }
    config.compile_fds(descriptors)?;
    Ok(())
}
