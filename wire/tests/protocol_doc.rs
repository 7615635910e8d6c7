//! PROTOCOL.md says what the source says: bodies, fields, codes, limits, examples and vectors, none missing, none more.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::BytesMut;
use roost_wire::code::should_reconnect;
use roost_wire::pb::Frame;
use roost_wire::ws::{Decoder, Event, MessageKind, Side, write_client_message};
use roost_wire::{CloseCode, Encoding, ErrorCode, FrameBody};

const PAGE: &str = include_str!("../PROTOCOL.md");
const SCHEMA: &str = include_str!("../proto/roost.proto");
const LIMITS: &str = concat!(include_str!("../src/limits.rs"), include_str!("../src/id.rs"));
/// The masking key of the client lines in the vectors.
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// What is declared in one message or enum: (name, number, type), in order. Enums have no type.
type Fields = Vec<(String, u32, String)>;

/// The part of the page under a heading, up to the next heading of its level or above.
fn section(heading: &str) -> &'static str {
    let level = heading.split(' ').next().unwrap();
    let start = PAGE.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no heading {heading:?}"));
    let body = &PAGE[start + heading.len() + 2..];
    let end = (1..=level.len()).filter_map(|depth| body.find(&format!("\n{} ", "#".repeat(depth)))).min();
    &body[..end.unwrap_or(body.len())]
}

/// The cells of the tables in a part of the page, without backquotes; the head of a table is left out.
fn rows(part: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
    };
    let lines: Vec<&str> = part.lines().collect();
    let is_rule = |at: usize| lines.get(at).is_some_and(|line: &&str| line.starts_with("|---"));
    (0..lines.len())
        .filter(|at| lines[*at].starts_with('|') && !is_rule(*at) && !is_rule(*at + 1))
        .map(|at| cells(lines[at]))
        .collect()
}

/// The blocks of a language in a part of the page.
fn blocks<'a>(part: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    part.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().trim_end()).collect()
}

/// The messages and enums of the schema, read from its text: `repeated string users = 1;` gives
/// ("users", 1, "repeated string"). Whatever this reader does not understand fails the test.
fn schema() -> (BTreeMap<String, Fields>, BTreeMap<String, Fields>) {
    let mut text = String::new();
    for line in SCHEMA.lines() {
        text.push_str(line.split("//").next().unwrap());
        text.push(' ');
    }
    let spaced = text.replace('{', " { ").replace('}', " } ").replace(';', " ; ").replace('=', " = ");
    let mut words = spaced.split_whitespace();
    let (mut messages, mut enums) = (BTreeMap::new(), BTreeMap::new());
    let mut depth = 0;
    let mut open: Option<(bool, String, Fields)> = None;
    let mut statement: Vec<&str> = Vec::new();
    while let Some(word) = words.next() {
        match word {
            "message" | "enum" if depth == 0 => {
                open = Some((word == "message", words.next().unwrap().to_owned(), Fields::new()));
            }
            "oneof" => _ = words.next().expect("its name"),
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                if depth == 0 {
                    let (is_message, name, fields) = open.take().expect("something to close");
                    if is_message {
                        messages.insert(name, fields)
                    } else {
                        enums.insert(name, fields)
                    };
                }
            }
            ";" => {
                if let Some((_, _, fields)) = &mut open {
                    let [kind @ .., name, "=", number] = &statement[..] else { panic!("{statement:?}") };
                    fields.push(((*name).to_owned(), number.parse().unwrap(), kind.join(" ")));
                }
                statement.clear();
            }
            word => statement.push(word),
        }
    }
    assert!(depth == 0 && statement.is_empty() && messages.len() > 40 && enums.len() >= 3, "the schema was read");
    (messages, enums)
}

/// `SEND` and `Send` and `send`.
fn snake(camel: &str) -> String {
    let mut snake = String::new();
    for (at, letter) in camel.char_indices() {
        if at > 0 && letter.is_uppercase() {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

fn documented_fields(heading: &str) -> Fields {
    rows(section(heading))
        .into_iter()
        .map(|row| (row[0].clone(), row[1].parse().expect("a number"), row[2].clone()))
        .collect()
}

/// The headings `#### …` of the page, each with its own line only.
fn headings() -> Vec<&'static str> {
    PAGE.lines().filter(|line| line.starts_with("#### ")).collect()
}

#[test]
fn every_message_and_field_of_the_schema_is_documented_with_its_number_and_type() {
    let (mut messages, enums) = schema();
    let bodies: Fields = messages.remove("Frame").unwrap().into_iter().filter(|field| field.0 != "rid").collect();
    let mut left: Vec<_> = headings();
    for (name, number, message) in bodies {
        let at = left.iter().position(|line| line.starts_with(&format!("#### `{name}` = {number} ")));
        let heading = left.remove(at.unwrap_or_else(|| panic!("`{name}` = {number} is not documented")));
        let fields = messages.remove(&message).unwrap();
        assert_eq!(documented_fields(heading), fields, "{name}");
    }
    for (name, fields) in messages {
        let heading = format!("#### Part `{name}`");
        assert_eq!(documented_fields(&heading), fields, "{name}");
        left.retain(|line| *line != heading);
    }
    for (name, values) in enums {
        let heading = format!("#### Enum `{name}`");
        let prefix = format!("{}_UNSPECIFIED", snake(&name).to_uppercase());
        let word = |value: String| if value == prefix { "\"\"".to_owned() } else { value.to_lowercase() };
        let want: Vec<_> = values.into_iter().map(|(value, number, _)| (word(value), number)).collect();
        let rows = rows(section(&heading)).into_iter();
        let got: Vec<_> = rows.map(|row| (row[0].clone(), row[1].parse::<u32>().unwrap())).collect();
        assert_eq!(got, want, "{name}");
        left.retain(|line| *line != heading);
    }
    assert_eq!(left, [""; 0], "headings for what the schema does not have");
}

#[test]
fn every_body_has_an_example_and_every_example_is_what_roost_writes() {
    for name in FrameBody::NAMES {
        let heading = headings().into_iter().find(|line| line.starts_with(&format!("#### `{name}` = "))).unwrap();
        let lines: Vec<&str> = blocks(section(heading), "json").into_iter().flat_map(str::lines).collect();
        assert!(!lines.is_empty(), "{name} has no example");
        for line in lines {
            let frame = from_json(line);
            assert_eq!(frame.body.as_ref().unwrap().name(), *name, "{line}");
            assert_eq!(encode(Encoding::Json, &frame), line.as_bytes(), "{line}\n{}", json_of(&frame));
        }
    }
}

#[test]
fn every_error_code_is_documented() {
    let want: Vec<_> = ErrorCode::ALL
        .iter()
        .map(|code| {
            let retryable = if code.retryable() { "yes" } else { "no" };
            [code.number().to_string(), format!("{code:?}"), code.text().to_owned(), retryable.to_owned()]
        })
        .collect();
    assert_eq!(table_of_four("### Errors"), want);
}

#[test]
fn every_close_code_is_documented() {
    let want: Vec<_> = CloseCode::ALL
        .iter()
        .map(|code| {
            let reconnect = if should_reconnect(Some(code.number())) { "yes" } else { "no" };
            [code.number().to_string(), format!("{code:?}"), code.text().to_owned(), reconnect.to_owned()]
        })
        .collect();
    assert_eq!(table_of_four("### Closes"), want);
}

fn table_of_four(heading: &str) -> Vec<[String; 4]> {
    let row = |row: Vec<String>| {
        assert!(row.len() == 5 && !row[4].is_empty(), "{row:?} says what a client does");
        std::array::from_fn(|at| row[at].clone())
    };
    rows(section(heading)).into_iter().map(row).collect()
}

#[test]
fn every_limit_is_documented_with_its_value() {
    let constants = LIMITS.split("\npub const ").skip(1).map(|rest| {
        let (name, rest) = rest.split_once(": ").unwrap();
        let (_, value) = rest.split(';').next().unwrap().split_once(" = ").unwrap();
        let factor = |text: &str| -> u64 { text.trim().replace('_', "").parse().expect("a product of numbers") };
        (name.to_owned(), value.split('*').map(factor).product::<u64>().to_string())
    });
    let got: Vec<_> = rows(section("## 12 Limits")).into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    assert_eq!(got, constants.collect::<Vec<_>>());
}

#[test]
fn every_limit_and_section_the_text_names_exists() {
    let limits: Vec<String> = rows(section("## 12 Limits")).into_iter().map(|row| row[0].clone()).collect();
    for word in PAGE.split('`').skip(1).step_by(2) {
        let is_constant = word.contains('_') && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
        assert!(!is_constant || limits.iter().any(|limit| limit == word), "{word} is no limit");
    }
    for (number, heading) in PAGE.lines().filter_map(|line| line.strip_prefix("## ")).enumerate() {
        assert!(heading.starts_with(&format!("{} ", number + 1)), "{heading} is section {}", number + 1);
    }
}

#[test]
fn every_json_line_of_the_shortest_session_names_a_body() {
    let part = section("## 1 The shortest session");
    let mut seen = 0;
    for line in part.lines().filter(|line| line.starts_with("< {") || line.starts_with("> {")) {
        let name = FrameBody::NAMES.iter().find(|name| line.contains(&format!("\"{name}\":{{")));
        assert!(name.is_some(), "{line}");
        seen += 1;
    }
    assert_eq!(seen, 7);
}

fn from_json(line: &str) -> Frame {
    let frame = Encoding::Json.decode(&mut line.as_bytes());
    frame.unwrap_or_else(|error| panic!("{error}: {line}")).expect("a frame")
}

fn encode(encoding: Encoding, frame: &Frame) -> Vec<u8> {
    let mut out = BytesMut::new();
    encoding.encode(frame, &mut out);
    out.to_vec()
}

fn json_of(frame: &Frame) -> String {
    String::from_utf8(encode(Encoding::Json, frame)).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

fn unhex(text: &str) -> Vec<u8> {
    text.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap_or_else(|_| panic!("{text}"))).collect()
}

/// A vector as the page should have it.
fn vector(frame: &Frame) -> String {
    let mut block = format!("json            {}\n", json_of(frame));
    let _ = writeln!(block, "protobuf        {}", hex(&encode(Encoding::Protobuf, frame)));
    for (name, encoding) in [("json", Encoding::Json), ("protobuf", Encoding::Protobuf)] {
        let _ = writeln!(block, "server {name:<8} {}", hex(&encoding.server_message(frame)));
    }
    for (name, encoding) in [("json", Encoding::Json), ("protobuf", Encoding::Protobuf)] {
        let mut out = BytesMut::new();
        write_client_message(encoding.message_kind(), &encode(encoding, frame), KEY, &mut out);
        let _ = writeln!(block, "client {name:<8} {}", hex(&out));
    }
    block.trim_end().to_owned()
}

/// The frame in a WebSocket message.
fn received(side: Side, bytes: &[u8]) -> Frame {
    let mut input = bytes.to_vec();
    let mut at = 0;
    let mut decoder = Decoder::new(side, 1 << 16);
    let Ok(Some(Event::Message { kind, mut payload })) = decoder.next(&mut input, &mut at) else {
        panic!("{} is no message", hex(bytes))
    };
    let encoding = if kind == MessageKind::Text { Encoding::Json } else { Encoding::Protobuf };
    let frame = encoding.decode(&mut payload).unwrap().unwrap();
    assert!(payload.is_empty() && at == bytes.len());
    frame
}

#[test]
fn every_vector_is_written_and_read_as_the_page_says() {
    let vectors = blocks(section("## 14 Test vectors"), "vector");
    assert!(vectors.len() >= 6, "{}", vectors.len());
    let mut want = Vec::new();
    for block in &vectors {
        let frame = from_json(block.lines().next().unwrap().strip_prefix("json ").unwrap().trim());
        want.push(vector(&frame));
    }
    assert!(vectors == want, "the vectors should read:\n\n{}", want.join("\n\n"));
    for block in vectors {
        let line = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
        let frame = from_json(line("json"));
        assert_eq!(Encoding::Protobuf.decode(&mut &unhex(line("protobuf"))[..]), Ok(Some(frame.clone())));
        for encoding in ["json", "protobuf"] {
            assert_eq!(received(Side::Client, &unhex(line(&format!("server {encoding}")))), frame);
            assert_eq!(received(Side::Server, &unhex(line(&format!("client {encoding}")))), frame);
        }
    }
}
