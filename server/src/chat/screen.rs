//! The chat of a person at a terminal.

mod view;

use std::io::{self, Write};
use std::time::{Duration, Instant};

use anyhow::Context;
use crossterm::event::{DisableBracketedPaste, DisableFocusChange, EnableBracketedPaste, EnableFocusChange};
use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, SetTitle, disable_raw_mode, enable_raw_mode};
use crossterm::{execute, queue};
use roost_client::{Client, Event, Events, RequestError};
use roost_wire::limits::TEXT_BYTES_MAX;
use roost_wire::pb::{Page, User};
use roost_wire::{ConvId, UserId};
use tokio::sync::mpsc;

use super::editor::Editor;
use super::keys::{self, Input};
use super::partner::Place;
use super::state::State;
use super::talk::Talk;
use super::text;

/// Keys read ahead.
const KEYS_QUEUED_MAX: usize = 1024;
/// Results of background requests that are not looked at yet.
const RESULTS_QUEUED_MAX: usize = 64;
/// Entries loaded at once.
const PAGE_ENTRIES: u32 = 50;
/// Members whose presence is watched.
const WATCHED_MAX: usize = 50;
/// How often the others are told that the user still writes.
const TYPING_EVERY: Duration = Duration::from_secs(3);
/// The user has stopped writing after this time without a key.
const TYPING_STOPS: Duration = Duration::from_secs(5);
/// How often the state file is written while there is news.
const SAVE_EVERY: Duration = Duration::from_secs(10);

/// The answer to something asked in the background.
enum Found {
    Page(Result<Page, RequestError>),
    Presence(Vec<roost_wire::pb::UserPresence>),
    Users(Vec<User>),
    Failed(roost_client::Cmid, String),
    Trouble(String),
}

/// Runs until the user leaves.
pub(crate) async fn run(client: &Client, events: &mut Events, place: Place, state: &mut State) -> anyhow::Result<()> {
    let (me, name) = client.me().context("not connected")?;
    let (results, found) = mpsc::channel(RESULTS_QUEUED_MAX);
    let terminal = Terminal::enter(&place.title)?;
    let mut screen = Screen {
        client: client.clone(),
        conv: place.conv.clone(),
        talk: Talk::new(place, &me, &name),
        editor: Editor::default(),
        results,
        scroll: 0,
        loading: false,
        asked_name: String::new(),
        focused: true,
        read: 0,
        typing_since: None,
        last_key: None,
        save_at: None,
    };
    screen.talk.note("/help lists the commands, Ctrl-C leaves.".to_owned());
    let result = screen.live(events, found, state).await;
    drop(terminal);
    result
}

struct Screen {
    client: Client,
    conv: ConvId,
    talk: Talk,
    editor: Editor,
    results: mpsc::Sender<Found>,
    /// Rows scrolled up from the end.
    scroll: usize,
    /// A page of older entries is on its way.
    loading: bool,
    /// The user whose name was asked for last.
    asked_name: String,
    focused: bool,
    /// Read mark that was sent.
    read: u64,
    /// When the others were last told that the user writes.
    typing_since: Option<Instant>,
    last_key: Option<Instant>,
    save_at: Option<Instant>,
}

impl Screen {
    async fn live(
        &mut self,
        events: &mut Events,
        mut found: mpsc::Receiver<Found>,
        state: &mut State,
    ) -> anyhow::Result<()> {
        let mut keys = read_keys();
        let mut stop = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let mut hangup = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?;
        self.load();
        self.watch();
        loop {
            let now = Instant::now();
            let deadline = self.expire(now);
            self.draw()?;
            tokio::select! {
                key = keys.recv() => {
                    let Some(key) = key else { return Ok(()) };
                    if !self.key(key?) {
                        return Ok(());
                    }
                    // A paste or fast typing: draw once.
                    while let Ok(key) = keys.try_recv() {
                        if !self.key(key?) {
                            return Ok(());
                        }
                    }
                }
                event = events.recv() => match event {
                    Some(Event::Ended(reason)) => return Err(reason.into()),
                    Some(event) => self.event(event),
                    None => return Ok(()),
                },
                Some(found) = found.recv() => self.found(found),
                () = sleep_until(deadline) => {}
                _ = stop.recv() => return Ok(()),
                _ = hangup.recv() => return Ok(()),
            }
            if self.save_at.is_some_and(|at| at <= Instant::now()) {
                self.save_at = None;
                state.save(&self.client).await;
            }
        }
    }

    fn draw(&self) -> io::Result<()> {
        let size = crossterm::terminal::size()?;
        let mut out = io::BufWriter::new(io::stdout().lock());
        view::draw(&mut out, size, &self.talk, &self.editor, self.scroll, self.loading)?;
        out.flush()
    }

    /// Lets go what is over; returns when to look again.
    fn expire(&mut self, now: Instant) -> Option<Instant> {
        let mut next = self.talk.expire(now).into_iter().collect::<Vec<_>>();
        if let (Some(_), Some(last)) = (self.typing_since, self.last_key) {
            if now >= last + TYPING_STOPS {
                self.stop_typing();
            } else {
                next.push(last + TYPING_STOPS);
            }
        }
        next.extend(self.save_at);
        next.into_iter().min()
    }

    fn event(&mut self, event: Event) {
        let now = Instant::now();
        if let Event::Connected { fresh: false, .. } = &event {
            self.watch();
        }
        let news = self.talk.event(event, now);
        if news && !self.focused {
            // The bell, once a message, while the user looks elsewhere.
            let _ = io::stdout().write_all(b"\x07");
        }
        self.mark_read();
        self.name_somebody();
        self.save_at.get_or_insert(now + SAVE_EVERY);
    }

    /// What is on the screen of somebody who looks at it is read.
    fn mark_read(&mut self) {
        let last = self.talk.last();
        if self.focused && self.scroll == 0 && last > self.read {
            self.read = last;
            let (client, conv) = (self.client.clone(), self.conv.clone());
            tokio::spawn(async move { client.read(&conv, last).await });
        }
    }

    fn found(&mut self, found: Found) {
        let now = Instant::now();
        match found {
            Found::Page(Ok(page)) => {
                self.loading = false;
                self.talk.at_start = page.entries.first().is_none_or(|entry| entry.seq <= 1);
                for entry in page.entries {
                    self.talk.entry(entry);
                }
                self.mark_read();
                self.name_somebody();
            }
            Found::Page(Err(error)) => {
                self.loading = false;
                self.talk.fail(&format!("no history: {error}"), now);
            }
            Found::Presence(users) => self.talk.presence(users),
            Found::Users(users) => {
                for user in users {
                    self.talk.place.names.insert(user.user, text::safe_line(&user.name));
                }
                self.name_somebody();
            }
            Found::Failed(cmid, why) => self.talk.failed(cmid, &why, now),
            Found::Trouble(why) => self.talk.fail(&why, now),
        }
    }

    // ---- asking ----------------------------------------------------------------------------------------------------

    /// Loads the entries before those that are there.
    fn load(&mut self) {
        if self.loading || self.talk.at_start {
            return;
        }
        self.loading = true;
        let (client, conv, results) = (self.client.clone(), self.conv.clone(), self.results.clone());
        let before = self.talk.first();
        tokio::spawn(async move {
            let page = client.history_before(&conv, before, PAGE_ENTRIES).await;
            results.send(Found::Page(page)).await
        });
    }

    fn watch(&self) {
        let users: Vec<UserId> = self.talk.place.others.iter().take(WATCHED_MAX).cloned().collect();
        if users.is_empty() {
            return;
        }
        let (client, results) = (self.client.clone(), self.results.clone());
        tokio::spawn(async move {
            let found = match client.watch(&users).await {
                Ok(users) => Found::Presence(users),
                Err(error) => Found::Trouble(format!("no presence: {error}")),
            };
            results.send(found).await
        });
    }

    /// Asks for the name of somebody who wrote and is no listed member.
    fn name_somebody(&mut self) {
        let Some(user) = self.talk.nameless().filter(|user| *user != self.asked_name) else { return };
        self.asked_name.clone_from(&user);
        let (client, results) = (self.client.clone(), self.results.clone());
        tokio::spawn(async move {
            let users = client.search(&user, 1).await.unwrap_or_default();
            let mut users: Vec<User> = users.into_iter().filter(|found| found.user == user).collect();
            if users.is_empty() {
                // Nobody knows: the id has to do.
                users.push(User { user, ..User::default() });
            }
            results.send(Found::Users(users)).await
        });
    }

    // ---- keys ------------------------------------------------------------------------------------------------------

    /// False if the user leaves.
    fn key(&mut self, input: Input) -> bool {
        match input {
            Input::Leave => return false,
            Input::Send => return self.enter(),
            Input::Text(text) => self.write(&text),
            Input::Left => self.editor.left(),
            Input::Right => self.editor.right(),
            Input::Home => self.editor.home(),
            Input::End => self.editor.end(),
            Input::Backspace => self.editor.backspace(),
            Input::Delete => self.editor.delete(),
            Input::DeleteWord => self.editor.delete_word(),
            Input::DeleteToStart => self.editor.delete_to_start(),
            Input::DeleteToEnd => self.editor.delete_to_end(),
            Input::PageUp => self.page_up(),
            Input::PageDown => {
                self.scroll = self.scroll.saturating_sub(page_rows());
                self.mark_read();
            }
            Input::Focus(focused) => {
                self.focused = focused;
                self.mark_read();
            }
            Input::Redraw => {}
        }
        true
    }

    fn page_up(&mut self) {
        let size = crossterm::terminal::size().unwrap_or((80, 24));
        let most = view::rows_above(size, &self.talk);
        self.scroll = (self.scroll + page_rows()).min(most);
        if self.scroll == most {
            self.load();
        }
    }

    fn write(&mut self, text: &str) {
        if !self.editor.insert(text, TEXT_BYTES_MAX) {
            self.talk.fail(&format!("a message has at most {} KiB", TEXT_BYTES_MAX / 1024), Instant::now());
            return;
        }
        if self.editor.text().starts_with('/') {
            return;
        }
        let now = Instant::now();
        self.last_key = Some(now);
        if self.typing_since.is_none_or(|since| now >= since + TYPING_EVERY) {
            self.typing_since = Some(now);
            self.client.typing(&self.conv, true);
        }
    }

    fn stop_typing(&mut self) {
        if self.typing_since.take().is_some() {
            self.client.typing(&self.conv, false);
        }
    }

    /// Enter was pressed: a command or a message.
    fn enter(&mut self) -> bool {
        let text = self.editor.take();
        match text.trim() {
            "" => {}
            "/quit" | "/exit" | "/q" => return false,
            "/help" => {
                for line in [
                    "/who  who is here    /history  older messages    /quit  leave",
                    "PageUp, PageDown: scroll.  Alt-Enter: a new line.  //…: a message that begins with /",
                    "… on its way   ✓ stored   ✓✓ delivered   ✓✓ in blue: read",
                ] {
                    self.talk.note(line.to_owned());
                }
            }
            "/who" => self.talk.who().into_iter().for_each(|line| self.talk.note(line)),
            "/history" if self.talk.at_start => self.talk.note("This is where it begins.".to_owned()),
            "/history" => {
                self.page_up();
                self.load();
            }
            command if command.starts_with('/') && !command.starts_with("//") => {
                let command = text::cut(&text::safe_line(command), 20);
                self.talk.fail(&format!("there is no {command}; /help lists the commands"), Instant::now());
            }
            _ => self.send(text.strip_prefix('/').unwrap_or(&text).trim_end()),
        }
        self.scroll = if text.trim() == "/history" { self.scroll } else { 0 };
        true
    }

    fn send(&mut self, text: &str) {
        self.stop_typing();
        let sending = match self.conv.is_channel() {
            true => self.client.publish(&self.conv, text),
            false => self.client.send(&self.conv, text),
        };
        let (cmid, results) = (sending.cmid(), self.results.clone());
        self.talk.sending(cmid, text);
        tokio::spawn(async move {
            if let Err(error) = sending.await {
                let _ = results.send(Found::Failed(cmid, error.to_string())).await;
            }
        });
    }
}

fn page_rows() -> usize {
    usize::from(crossterm::terminal::size().map_or(24, |(_, rows)| rows)).saturating_sub(5).max(1)
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// The keyboard, read on a thread of its own: reading blocks.
fn read_keys() -> mpsc::Receiver<io::Result<Input>> {
    let (sender, receiver) = mpsc::channel(KEYS_QUEUED_MAX);
    std::thread::spawn(move || {
        loop {
            let input = match crossterm::event::read() {
                Ok(event) => keys::read(event).map(Ok),
                Err(error) => Some(Err(error)),
            };
            let Some(input) = input else { continue };
            let last = input.is_err();
            if sender.blocking_send(input).is_err() || last {
                return;
            }
        }
    });
    receiver
}

/// The terminal in raw mode, on its other screen. Dropping it, or a panic, gives it back as it was.
struct Terminal;

impl Terminal {
    fn enter(title: &str) -> anyhow::Result<Self> {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            hook(panic);
        }));
        enable_raw_mode().context("cannot use the terminal")?;
        let terminal = Self;
        let title = format!("{title} - Roost");
        execute!(io::stdout(), EnterAlternateScreen, EnableBracketedPaste, EnableFocusChange, SetTitle(title))
            .context("cannot use the terminal")?;
        Ok(terminal)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    let mut out = io::stdout();
    // Nothing can be done if the terminal is gone.
    let _ = queue!(out, DisableFocusChange, DisableBracketedPaste, LeaveAlternateScreen, crossterm::cursor::Show);
    let _ = out.flush();
    let _ = disable_raw_mode();
}
