//! What a chat looks like, without a terminal: lines, marks, who is there, what went wrong.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use roost_client::{Cmid, Event};
use roost_wire::pb::{Entry, EventKind, Kind, Receipt, Role, Row, UserPresence};
use roost_wire::{Seq, UserId};

use super::partner::Place;
use super::text;

/// How long an error stays.
const ERROR_FOR: Duration = Duration::from_secs(5);
/// How long somebody counts as writing without saying so again.
const TYPING_FOR: Duration = Duration::from_secs(6);
/// Entries kept; older ones come back by paging up.
const ENTRIES_MAX: usize = 5000;
/// Other conversations whose names are kept.
const ELSEWHERE_MAX: usize = 1000;
/// Notes kept.
const NOTES_MAX: usize = 200;

/// How far a message of the user's own has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tick {
    Waiting,
    Sent,
    Delivered,
    Read,
}

/// A line of the chat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Said { ts: u64, who: String, own: Option<Tick>, text: String },
    Happened { ts: u64, text: String },
    Note(String),
}

#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    delivered: Seq,
    read: Seq,
}

/// Whether there is a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Up,
    Down { retry_at: Option<Instant>, reason: String },
}

/// Everything that is shown.
pub(crate) struct Talk {
    pub(crate) place: Place,
    me: String,
    my_name: String,
    entries: BTreeMap<Seq, Entry>,
    /// The user's own messages that are not in the log yet.
    waiting: Vec<(Cmid, String)>,
    /// Shown after the entry that was last when they came.
    notes: Vec<(Seq, String)>,
    marks: BTreeMap<String, Mark>,
    typing: BTreeMap<String, Instant>,
    presence: BTreeMap<String, (bool, u64)>,
    /// Other conversations that were heard of: how to call them, and whether news was told.
    elsewhere: BTreeMap<String, (String, bool)>,
    pub(crate) link: Link,
    error: Option<(String, Instant)>,
    /// The beginning of the log is loaded.
    pub(crate) at_start: bool,
}

impl Talk {
    pub(crate) fn new(place: Place, me: &UserId, my_name: &str) -> Self {
        let mark = |(user, (delivered, read)): (&String, &(Seq, Seq))| {
            (user.clone(), Mark { delivered: *delivered, read: *read })
        };
        Self {
            marks: place.marks.iter().map(mark).collect(),
            place,
            me: me.to_string(),
            my_name: text::safe_line(my_name),
            entries: BTreeMap::new(),
            waiting: Vec::new(),
            notes: Vec::new(),
            typing: BTreeMap::new(),
            presence: BTreeMap::new(),
            elsewhere: BTreeMap::new(),
            link: Link::Up,
            error: None,
            at_start: false,
        }
    }

    /// The first entry that is loaded.
    pub(crate) fn first(&self) -> Option<Seq> {
        self.entries.first_key_value().map(|(seq, _)| *seq)
    }

    /// The last one.
    pub(crate) fn last(&self) -> Seq {
        self.entries.last_key_value().map_or(0, |(seq, _)| *seq)
    }

    /// People whose names are not known.
    pub(crate) fn nameless(&self) -> Option<String> {
        let unknown = |entry: &&Entry| !self.place.names.contains_key(&entry.from);
        self.entries.values().rev().find(unknown).map(|entry| entry.from.clone())
    }

    /// Takes an entry. True if it is news from somebody else.
    pub(crate) fn entry(&mut self, entry: Entry) -> bool {
        if entry.conv != self.place.conv.as_str() || entry.seq == 0 {
            return false;
        }
        let news = entry.from != self.me && entry.seq > self.last();
        self.waiting.retain(|(cmid, _)| cmid.to_string() != entry.cmid);
        self.typing.remove(&entry.from);
        // Who answers has what was said before.
        let mark = self.marks.entry(entry.from.clone()).or_default();
        mark.delivered = mark.delivered.max(entry.seq);
        self.entries.insert(entry.seq, entry);
        if self.entries.len() > ENTRIES_MAX {
            self.entries.pop_first();
            self.at_start = false;
        }
        news
    }

    /// A message of the user's own leaves.
    pub(crate) fn sending(&mut self, cmid: Cmid, text: &str) {
        self.waiting.push((cmid, text.to_owned()));
    }

    /// It will not be stored.
    pub(crate) fn failed(&mut self, cmid: Cmid, why: &str, now: Instant) {
        if let Some(place) = self.waiting.iter().position(|(waiting, _)| *waiting == cmid) {
            let (_, text) = self.waiting.remove(place);
            self.note(format!("Not sent: {}", text::cut(&text::safe_line(&text), 60)));
        }
        self.fail(why, now);
    }

    pub(crate) fn fail(&mut self, why: &str, now: Instant) {
        self.error = Some((text::safe_line(why), now + ERROR_FOR));
    }

    pub(crate) fn note(&mut self, text: String) {
        self.notes.push((self.last(), text));
        if self.notes.len() > NOTES_MAX {
            self.notes.remove(0);
        }
    }

    /// Takes an event. True if it is news from somebody else.
    pub(crate) fn event(&mut self, event: Event, now: Instant) -> bool {
        match event {
            Event::Connected { .. } => self.link = Link::Up,
            Event::Disconnected { retry_in, reason, .. } => {
                self.typing.clear();
                self.link = Link::Down { retry_at: retry_in.map(|retry_in| now + retry_in), reason };
            }
            Event::Entry(entry) if entry.conv != self.place.conv.as_str() => self.news_elsewhere(&entry),
            Event::Entry(entry) => return self.entry(entry),
            Event::Conversations(rows) => rows.iter().for_each(|row| self.heard_of(row)),
            Event::Skipped { conv, from, to } if conv == self.place.conv => {
                self.note(format!("Entries {from} to {to} are not shown; /history may have them."));
            }
            Event::Receipt(receipt) => self.receipt(&receipt),
            Event::Typing(typing) if typing.conv == self.place.conv.as_str() && typing.user != self.me => {
                if typing.on {
                    self.typing.insert(typing.user, now + TYPING_FOR);
                } else {
                    self.typing.remove(&typing.user);
                }
            }
            Event::Presence(users) => self.presence(users),
            Event::Rejected { cmid, error, .. } => self.failed(cmid, &error.message, now),
            _ => {}
        }
        false
    }

    fn heard_of(&mut self, row: &Row) {
        let name = match &row.peer {
            Some(peer) => text::safe_line(&peer.name),
            None => text::safe_line(&row.name),
        };
        if self.elsewhere.len() < ELSEWHERE_MAX || self.elsewhere.contains_key(&row.conv) {
            self.elsewhere.entry(row.conv.clone()).or_default().0 = name;
        }
    }

    /// Somebody wrote in another conversation: told once for each.
    fn news_elsewhere(&mut self, entry: &Entry) {
        let said = entry.body.as_ref().is_some_and(|body| body.event.is_none());
        let known = self.elsewhere.contains_key(&entry.conv);
        if entry.from == self.me || !said || (!known && self.elsewhere.len() >= ELSEWHERE_MAX) {
            return;
        }
        let from = self.name(&entry.from);
        let (name, told) = self.elsewhere.entry(entry.conv.clone()).or_insert((from, false));
        if std::mem::replace(told, true) {
            return;
        }
        let note =
            format!("News in another conversation, {name}: roost chat … --conv {}", text::safe_line(&entry.conv));
        self.note(note);
    }

    fn receipt(&mut self, receipt: &Receipt) {
        if receipt.conv == self.place.conv.as_str() {
            let mark = self.marks.entry(receipt.user.clone()).or_default();
            mark.delivered = mark.delivered.max(receipt.delivered);
            mark.read = mark.read.max(receipt.read);
        }
    }

    pub(crate) fn presence(&mut self, users: Vec<UserPresence>) {
        for user in users {
            self.presence.insert(user.user, (user.online, user.last_seen));
        }
    }

    /// Forgets what is over. Returns when something will be over next.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<Instant> {
        self.typing.retain(|_, until| *until > now);
        self.error.take_if(|(_, until)| *until <= now);
        let typing = self.typing.values().copied();
        let error = self.error.as_ref().map(|(_, until)| *until);
        // A second later the count-down has changed.
        let counting = matches!(self.link, Link::Down { .. }).then(|| now + Duration::from_secs(1));
        typing.chain(error).chain(counting).min()
    }

    pub(crate) fn error(&self) -> Option<&str> {
        self.error.as_ref().map(|(text, _)| text.as_str())
    }

    /// "Bob is typing…"
    pub(crate) fn typing(&self) -> Option<String> {
        let names: Vec<String> = self.typing.keys().map(|user| self.name(user)).collect();
        match names.as_slice() {
            [] => None,
            [one] => Some(format!("{one} is typing…")),
            [one, two] => Some(format!("{one} and {two} are typing…")),
            [one, ..] => Some(format!("{one} and {} others are typing…", names.len() - 1)),
        }
    }

    /// "online", "last seen 12:30", "2 of 5 online", or nothing if it is not known.
    pub(crate) fn presence_line(&self) -> String {
        if let (Kind::Direct, Some(other)) = (self.place.kind, self.place.others.first()) {
            return match self.presence.get(other.as_str()) {
                Some((true, _)) => "online".to_owned(),
                Some((false, 0)) => "offline".to_owned(),
                Some((false, seen)) => format!("last seen {}", text::clock(*seen, text::now_ms())),
                None => String::new(),
            };
        }
        let online = self.presence.values().filter(|(online, _)| *online).count();
        match self.place.others.len() {
            0 => String::new(),
            others => format!("{online} of {others} others online"),
        }
    }

    /// One line a member: name, id, presence.
    pub(crate) fn who(&self) -> Vec<String> {
        let now = text::now_ms();
        let one = |user: &UserId| {
            let state = match self.presence.get(user.as_str()) {
                Some((true, _)) => "online".to_owned(),
                Some((false, seen)) if *seen > 0 => format!("last seen {}", text::clock(*seen, now)),
                _ => "offline".to_owned(),
            };
            format!("{} ({user}): {state}", self.name(user.as_str()))
        };
        let me = format!("{} ({}): you", self.my_name, self.me);
        std::iter::once(me).chain(self.place.others.iter().map(one)).collect()
    }

    /// Everything, oldest first.
    pub(crate) fn lines(&self) -> Vec<Line> {
        let mut notes = self.notes.iter().peekable();
        let mut lines = Vec::new();
        let mut notes_up_to = |seq: Seq, lines: &mut Vec<Line>| {
            while let Some((_, text)) = notes.next_if(|(after, _)| *after < seq) {
                lines.push(Line::Note(text.clone()));
            }
        };
        for (seq, entry) in &self.entries {
            notes_up_to(*seq, &mut lines);
            lines.push(self.line(entry));
        }
        notes_up_to(Seq::MAX, &mut lines);
        for (_, said) in &self.waiting {
            let (who, text) = (self.my_name.clone(), text::safe(said));
            lines.push(Line::Said { ts: text::now_ms(), who, own: Some(Tick::Waiting), text });
        }
        lines
    }

    fn line(&self, entry: &Entry) -> Line {
        let body = entry.body.as_ref();
        if let Some(event) = body.and_then(|body| body.event.as_ref()) {
            let who = self.name(&entry.from);
            let users: Vec<String> = event.users.iter().map(|user| self.name(user)).collect();
            let users = users.join(", ");
            let text = match event.kind() {
                EventKind::Added => format!("{who} added {users}"),
                EventKind::Removed => format!("{who} removed {users}"),
                EventKind::Joined => format!("{users} joined"),
                EventKind::Left => format!("{users} left"),
                EventKind::Renamed => format!("{who} named it {}", text::safe_line(&event.name)),
                EventKind::RoleChanged => format!("{users} is now {}", role(event.role())),
                EventKind::Unspecified => "something happened that this version does not know".to_owned(),
            };
            return Line::Happened { ts: entry.ts, text };
        }
        let own = (entry.from == self.me).then(|| self.tick(entry.seq));
        let text = text::safe(body.map_or("", |body| body.text.as_str()));
        Line::Said { ts: entry.ts, who: self.name(&entry.from), own, text }
    }

    /// How far all the others are.
    fn tick(&self, seq: Seq) -> Tick {
        let mut others =
            self.place.others.iter().map(|user| self.marks.get(user.as_str()).copied().unwrap_or_default());
        if self.place.others.is_empty() {
            return Tick::Sent;
        }
        if others.clone().all(|mark| mark.read >= seq) {
            Tick::Read
        } else if others.all(|mark| mark.delivered.max(mark.read) >= seq) {
            Tick::Delivered
        } else {
            Tick::Sent
        }
    }

    fn name(&self, user: &str) -> String {
        if user == self.me {
            return self.my_name.clone();
        }
        match self.place.names.get(user) {
            Some(name) if !name.is_empty() => name.clone(),
            _ => text::cut(&text::safe_line(user), 10),
        }
    }
}

const fn role(role: Role) -> &'static str {
    match role {
        Role::Owner => "owner",
        Role::Admin => "admin",
        Role::Member | Role::Unspecified => "member",
    }
}

#[cfg(test)]
mod tests {
    use roost_wire::ConvId;
    use roost_wire::pb::{Body, Typing};

    use super::*;

    fn talk() -> Talk {
        talk_with(BTreeMap::new())
    }

    fn talk_with(marks: BTreeMap<String, (Seq, Seq)>) -> Talk {
        let user = |id| UserId::new(id).expect("an id");
        let place = Place {
            conv: ConvId::new("c_1").expect("an id"),
            kind: Kind::Direct,
            title: "Bob".into(),
            names: BTreeMap::from([("u_bob".to_owned(), "Bob".to_owned())]),
            others: vec![user("u_bob")],
            marks,
        };
        Talk::new(place, &user("u_ada"), "Ada")
    }

    fn entry(seq: Seq, from: &str, cmid: &str, text: &str) -> Entry {
        let body = Some(Body { text: text.into(), event: None });
        Entry { conv: "c_1".into(), seq, from: from.into(), cmid: cmid.into(), ts: 0, body }
    }

    fn ticks(talk: &Talk) -> Vec<Option<Tick>> {
        let tick = |line| if let Line::Said { own, .. } = line { own } else { None };
        talk.lines().into_iter().map(tick).collect()
    }

    #[test]
    fn f15_ticks_tell_how_far_a_message_has_come() {
        let (mut talk, now) = (talk(), Instant::now());
        let cmid = Cmid::from_bits(1);
        talk.sending(cmid, "hi");
        assert_eq!(ticks(&talk), [Some(Tick::Waiting)]);
        assert!(!talk.entry(entry(1, "u_ada", &cmid.to_string(), "hi")), "one's own is no news");
        assert_eq!(ticks(&talk), [Some(Tick::Sent)]);
        let receipt =
            |delivered, read| Event::Receipt(Receipt { conv: "c_1".into(), user: "u_bob".into(), delivered, read });
        talk.event(receipt(1, 0), now);
        assert_eq!(ticks(&talk), [Some(Tick::Delivered)]);
        talk.event(receipt(1, 1), now);
        talk.event(receipt(0, 0), now);
        assert_eq!(ticks(&talk), [Some(Tick::Read)], "marks only rise");
    }

    #[test]
    fn f15_a_reopened_history_has_its_ticks() {
        let mut talk = talk_with(BTreeMap::from([("u_bob".to_owned(), (2, 1))]));
        (1..=3).for_each(|seq| _ = talk.entry(entry(seq, "u_ada", &seq.to_string(), "hi")));
        assert_eq!(ticks(&talk), [Some(Tick::Read), Some(Tick::Delivered), Some(Tick::Sent)]);
    }

    #[test]
    fn f16_typing_ends_by_word_by_message_and_by_time() {
        let (mut talk, now) = (talk(), Instant::now());
        let typing = |on| Event::Typing(Typing { conv: "c_1".into(), user: "u_bob".into(), on });
        talk.event(typing(true), now);
        assert_eq!(talk.typing().as_deref(), Some("Bob is typing…"));
        talk.event(typing(false), now);
        assert_eq!(talk.typing(), None);
        talk.event(typing(true), now);
        assert!(talk.entry(entry(1, "u_bob", "b", "hello")), "news");
        assert_eq!(talk.typing(), None);
        talk.event(typing(true), now);
        assert_eq!(talk.expire(now), Some(now + TYPING_FOR));
        assert_eq!(talk.expire(now + TYPING_FOR), None);
        assert_eq!(talk.typing(), None);
    }

    #[test]
    fn f26_errors_go_away_after_five_seconds_and_the_message_is_not_shown_as_sent() {
        let (mut talk, now) = (talk(), Instant::now());
        talk.sending(Cmid::from_bits(1), "hi");
        talk.failed(Cmid::from_bits(1), "too \x1b[31mlong", now);
        assert!(!talk.error().expect("shown").contains('\x1b'));
        assert_eq!(talk.lines(), [Line::Note("Not sent: hi".into())]);
        assert_eq!(talk.expire(now + Duration::from_secs(5)), None);
        assert_eq!(talk.error(), None);
    }

    #[test]
    fn entries_of_other_conversations_are_not_shown_but_told_once() {
        let (mut talk, now) = (talk(), Instant::now());
        let row = Row { conv: "c_2".into(), name: "Birds".into(), ..Row::default() };
        talk.event(Event::Conversations(vec![row]), now);
        for seq in 1..=2 {
            let news = Entry { conv: "c_2".into(), ..entry(seq, "u_bob", "b", "x") };
            assert!(!talk.event(Event::Entry(news), now));
        }
        let [Line::Note(note)] = &talk.lines()[..] else { panic!("one line") };
        assert!(note.contains("Birds") && note.ends_with("--conv c_2"), "{note}");
    }
}
