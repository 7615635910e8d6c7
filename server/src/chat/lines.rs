//! The chat of scripts: lines in, lines out.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};

use anyhow::{Context, bail};
use roost_client::{Client, Event, Events, SendError};
use roost_wire::pb;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::partner::Found;
use super::text;

/// Lines read ahead of what is sent.
const LINES_QUEUED_MAX: usize = 64;
/// Messages that may wait for their acknowledgement; the input waits above it.
const SENDS_MAX: usize = 200;

/// Names that are kept.
const NAMES_MAX: usize = 10_000;

/// Sends every line of the input and waits for the acknowledgements, printing what arrives meanwhile.
pub(crate) async fn run(
    client: &Client,
    events: &mut Events,
    found: Found,
    json: bool,
    stay: bool,
) -> anyhow::Result<()> {
    let Found { place, early } = found;
    let me = client.me().map(|(user, _)| user.to_string()).context("not connected")?;
    let mut printer = Printer { json, me, conv: place.conv.to_string(), names: place.names.clone() };
    for event in &early {
        printer.name(client, event).await;
        printer.event(event)?;
    }
    let mut input = read_lines();
    let mut sends: JoinSet<Result<pb::Sent, SendError>> = JoinSet::new();
    let mut open = true;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen to signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen to signals")?;
    while open || stay || !sends.is_empty() {
        tokio::select! {
            line = input.recv(), if open && sends.len() < SENDS_MAX => match line {
                Some(line) if line.is_empty() => {}
                Some(line) if place.conv.is_channel() => drop(sends.spawn(client.publish(&place.conv, line))),
                Some(line) => drop(sends.spawn(client.send(&place.conv, line))),
                None => open = false,
            },
            Some(sent) = sends.join_next() => match sent.context("a send was cut off")? {
                Ok(sent) => printer.sent(&sent)?,
                Err(error) => bail!("a message was not stored: {error}"),
            },
            event = events.recv() => match event {
                Some(Event::Ended(reason)) => return Err(reason.into()),
                Some(event) => {
                    printer.name(client, &event).await;
                    printer.event(&event)?;
                }
                None => bail!("the connection has ended"),
            },
            // What was received is remembered, so that it is not shown again.
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    if sends.is_empty() { Ok(()) } else { bail!("stopped before every message was acknowledged") }
}

/// Standard input, read on a thread of its own: it may block for ever.
fn read_lines() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(LINES_QUEUED_MAX);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().split(b'\n') {
            let Ok(bytes) = line else { return };
            let line = String::from_utf8_lossy(&bytes).trim_end_matches('\r').to_owned();
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

struct Printer {
    json: bool,
    me: String,
    conv: String,
    names: BTreeMap<String, String>,
}

impl Printer {
    fn sent(&self, sent: &pb::Sent) -> anyhow::Result<()> {
        if self.json { print(&json!({ "sent": sent }).to_string()) } else { Ok(()) }
    }

    /// Asks for the name of somebody who wrote and is no listed member.
    async fn name(&mut self, client: &Client, event: &Event) {
        let Event::Entry(entry) = event else { return };
        if self.json || entry.conv != self.conv || entry.from == self.me || self.names.contains_key(&entry.from) {
            return;
        }
        let found = client.search(&entry.from, 1).await.unwrap_or_default();
        // Nobody knows: the id has to do.
        let name = found.into_iter().find(|user| user.user == entry.from).map(|user| user.name).unwrap_or_default();
        if self.names.len() < NAMES_MAX {
            self.names.insert(entry.from.clone(), name);
        }
    }

    fn event(&self, event: &Event) -> anyhow::Result<()> {
        if self.json {
            return as_json(event).map_or(Ok(()), |value| print(&value.to_string()));
        }
        match event {
            Event::Entry(entry) if entry.conv == self.conv && entry.from != self.me => {
                let body = entry.body.as_ref();
                let name = self.names.get(&entry.from).filter(|name| !name.is_empty()).unwrap_or(&entry.from);
                match body.and_then(|body| body.event.as_ref()) {
                    Some(_) => Ok(()),
                    None => {
                        let said = text::safe(body.map_or("", |body| body.text.as_str()));
                        print(&format!("{}: {said}", text::safe_line(name)))
                    }
                }
            }
            Event::Disconnected { reason, retry_in: Some(retry_in), .. } => {
                eprintln!("Connection lost: {}. Next try in {:.1} s.", text::safe_line(reason), retry_in.as_secs_f32());
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// One event as the shapes of the protocol's JSON form; `None` for events this version has no shape for.
fn as_json(event: &Event) -> Option<Value> {
    Some(match event {
        Event::Connected { fresh, user, name, session } => {
            json!({"connected": {"fresh": fresh, "user": user, "name": name, "session": session}})
        }
        Event::Disconnected { code, retry_in, reason } => {
            let retry_in_ms = retry_in.map(|retry_in| u64::try_from(retry_in.as_millis()).unwrap_or(u64::MAX));
            json!({"disconnected": {"code": code, "retry_in_ms": retry_in_ms, "reason": reason}})
        }
        Event::Entry(entry) => json!({ "entry": entry }),
        Event::Skipped { conv, from, to } => json!({"skipped": {"conv": conv, "from": from, "to": to}}),
        Event::Receipt(receipt) => json!({ "receipt": receipt }),
        Event::Typing(typing) => json!({ "typing": typing }),
        Event::Presence(users) => json!({"presence": {"users": users}}),
        Event::Conversations(rows) => json!({"changed": {"rows": rows}}),
        Event::Rejected { cmid, conv, error } => {
            json!({"rejected": {"cmid": cmid.to_string(), "conv": conv, "error": error}})
        }
        _ => return None,
    })
}

fn print(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("cannot write the output")
}
