//! Whom to talk to: a person, a channel or a conversation.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use roost_client::{Client, Event, Events};
use roost_wire::pb::{Conversation, Kind, User};
use roost_wire::{ConvId, Seq, UserId};

use super::text;

/// How often a name that nobody has is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Most people of one name that are listed.
const LISTED_MAX: u32 = 100;

/// Events kept while somebody is waited for.
const EARLY_MAX: usize = 1000;

/// Whom to talk to.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct Target {
    /// A person: display name or id (u_…)
    #[arg(long, value_name = "NAME|ID")]
    to: Option<String>,
    /// A channel
    #[arg(long, value_name = "NAME")]
    channel: Option<String>,
    /// A conversation: id (c_…)
    #[arg(long, value_name = "ID")]
    conv: Option<ConvId>,
}

/// Where one talks.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) conv: ConvId,
    pub(crate) kind: Kind,
    /// For people.
    pub(crate) title: String,
    /// Display names of members by id.
    pub(crate) names: BTreeMap<String, String>,
    /// The other members.
    pub(crate) others: Vec<UserId>,
    /// How far they had come: delivered, read. Of those who had come anywhere.
    pub(crate) marks: BTreeMap<String, (Seq, Seq)>,
}

/// A place, and what happened while it was looked for.
pub(crate) struct Found {
    pub(crate) place: Place,
    pub(crate) early: Vec<Event>,
}

/// Finds the place, waiting for a person who has not come yet.
pub(crate) async fn find(
    client: &Client,
    events: &mut Events,
    target: &Target,
    interactive: bool,
) -> anyhow::Result<Found> {
    let mut early = Vec::new();
    if let Some(name) = &target.channel {
        let conv = ConvId::channel(name).with_context(|| format!("`{name}` is no name of a channel"))?;
        client.subscribe(&conv).await.with_context(|| format!("cannot follow {name}"))?;
        let title = text::safe_line(name);
        let place = Place {
            conv,
            kind: Kind::Channel,
            title,
            names: BTreeMap::new(),
            others: Vec::new(),
            marks: BTreeMap::new(),
        };
        return Ok(Found { place, early });
    }
    let me = client.me().map(|(user, _)| user).context("not connected")?;
    let conversation = match (&target.conv, &target.to) {
        (Some(conv), _) => client.get(conv).await.with_context(|| format!("cannot open {conv}"))?,
        (None, to) => {
            let to = to.as_deref().unwrap_or_default();
            let user = person(client, events, &mut early, to, &me, interactive).await?;
            client.create_direct(&user).await.with_context(|| format!("cannot talk to {user}"))?
        }
    };
    place(&conversation, &me).map(|place| Found { place, early })
}

/// What is known of a conversation.
fn place(conversation: &Conversation, me: &UserId) -> anyhow::Result<Place> {
    let conv = ConvId::new(&conversation.conv).context("the server named no conversation")?;
    let mut names = BTreeMap::new();
    let mut others = Vec::new();
    let mut marks = BTreeMap::new();
    for member in &conversation.members {
        if member.delivered > 0 {
            marks.insert(member.user.clone(), (member.delivered, member.read));
        }
        names.insert(member.user.clone(), text::safe_line(&member.name));
        if let Ok(user) = UserId::new(&member.user)
            && user != *me
        {
            others.push(user);
        }
    }
    let name_of = |user: &UserId| names.get(user.as_str()).cloned().unwrap_or_else(|| user.to_string());
    let title = match conversation.kind() {
        Kind::Direct => others.first().map_or_else(|| "yourself".to_owned(), name_of),
        _ if conversation.name.is_empty() => conv.to_string(),
        _ => text::safe_line(&conversation.name),
    };
    Ok(Place { conv, kind: conversation.kind(), title, names, others, marks })
}

async fn person(
    client: &Client,
    events: &mut Events,
    early: &mut Vec<Event>,
    to: &str,
    me: &UserId,
    interactive: bool,
) -> anyhow::Result<UserId> {
    if let Ok(user) = UserId::new(to)
        && to.starts_with("u_")
    {
        return Ok(user);
    }
    let mut told = false;
    loop {
        let found = client.search(to, LISTED_MAX).await.context("cannot look for people")?;
        match choose(found, to, me) {
            Choice::One(user) => return Ok(user),
            Choice::Several(users) => bail!("{}", list(to, &users)),
            Choice::None if !std::mem::replace(&mut told, true) => {
                let leave = if interactive { " (Ctrl-C leaves)" } else { "" };
                eprintln!(
                    "Nobody is called {} yet. Waiting until somebody of that name comes…{leave}",
                    text::safe_line(to)
                );
            }
            Choice::None => {}
        }
        wait(events, early).await?;
    }
}

enum Choice {
    None,
    One(UserId),
    Several(Vec<User>),
}

/// People whose whole name is `name`; oneself never.
fn choose(found: Vec<User>, name: &str, me: &UserId) -> Choice {
    let wanted = name.trim().to_lowercase();
    let mut matching: Vec<User> = found
        .into_iter()
        .filter(|user| user.user != me.as_str() && user.name.trim().to_lowercase() == wanted)
        .collect();
    if matching.len() > 1 {
        matching.sort_by_key(|user| std::cmp::Reverse(user.last_seen));
        return Choice::Several(matching);
    }
    match matching.pop().map(|user| UserId::new(&user.user)) {
        Some(Ok(user)) => Choice::One(user),
        _ => Choice::None,
    }
}

fn list(name: &str, users: &[User]) -> String {
    let now = text::now_ms();
    let mut message = format!("{} people are called {}:\n", users.len(), text::safe_line(name));
    for user in users {
        let seen = match user.last_seen {
            0 => "never seen".to_owned(),
            ms => format!("last seen {}", text::clock(ms, now)),
        };
        let _ = writeln!(message, "  {}  {seen}", text::safe_line(&user.user));
    }
    let example = users.first().map_or("u_…", |user| user.user.as_str());
    let _ = write!(message, "Choose one by id: --to {}", text::safe_line(example));
    message
}

/// A moment, in which the connection may end for good.
async fn wait(events: &mut Events, early: &mut Vec<Event>) -> anyhow::Result<()> {
    let later = tokio::time::sleep(LOOK_EVERY);
    tokio::pin!(later);
    loop {
        tokio::select! {
            () = &mut later => return Ok(()),
            event = events.recv() => match event {
                Some(Event::Ended(reason)) => return Err(reason.into()),
                Some(event) if early.len() < EARLY_MAX => early.push(event),
                Some(_) => {}
                None => bail!("the connection has ended"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: &str, name: &str, last_seen: u64) -> User {
        User { user: id.into(), name: name.into(), last_seen }
    }

    #[test]
    fn a_name_means_the_one_person_of_that_name() {
        let me = UserId::new("u_me").expect("an id");
        let found = |users: &[(&str, &str)]| users.iter().map(|(id, name)| user(id, name, 0)).collect::<Vec<_>>();
        for (name, users, want) in [
            ("the only one", vec![("u_1", "Bob")], Some("u_1")),
            ("case does not matter", vec![("u_1", "bOB")], Some("u_1")),
            ("longer names are others", vec![("u_1", "Bobby"), ("u_2", "Bob")], Some("u_2")),
            ("not oneself", vec![("u_me", "Bob"), ("u_2", "Bob")], Some("u_2")),
            ("nobody", vec![("u_me", "Bob"), ("u_1", "Bobby")], None),
        ] {
            match (choose(found(&users), "Bob", &me), want) {
                (Choice::One(user), Some(want)) => assert_eq!(user.as_str(), want, "{name}"),
                (Choice::None, None) => {}
                _ => panic!("{name}"),
            }
        }
    }

    #[test]
    fn several_of_a_name_are_listed_with_ids() {
        let me = UserId::new("u_me").expect("an id");
        let Choice::Several(users) = choose(vec![user("u_1", "Bob", 0), user("u_2", "Bob", 5)], "bob", &me) else {
            panic!("two people");
        };
        let text = list("bob", &users);
        assert!(text.contains("u_1  never seen") && text.contains("u_2  last seen"), "{text}");
        assert!(text.ends_with("--to u_2"), "the one seen last is the example: {text}");
    }
}
