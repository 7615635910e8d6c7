//! A connection by QUIC as a client sees it: a real connection of `quinn_proto`, driven as the client's driver does.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use roost_client::core::{Gone, LinkId, MESSAGE_BYTES_MAX};
use roost_edge::driver::quic::testkit::{Caller, Trust};
use roost_wire::native::Cut;

/// How long a handshake may take.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// How long last words may take: a code behind the end of the stream, or that what was written has arrived.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// How far it has come.
enum Stage {
    /// The handshake is under way, until then at the latest.
    Shaking(Instant),
    Open,
    /// The server has ended the stream; its code is awaited until then.
    Ending(Instant),
    /// We end it, with a code, once all has arrived or then.
    Leaving(u16, Instant),
    /// Nobody is interested in it any more.
    Over,
}

/// What goes wrong with it.
#[derive(Default)]
pub(crate) struct Weather {
    /// Until then everything takes this much longer.
    pub(crate) lag: Option<(Instant, Duration)>,
    /// What it sends is lost.
    pub(crate) dumb: bool,
    /// What is sent to it is lost.
    pub(crate) deaf: bool,
    /// The app does not read before.
    pub(crate) unread_until: Option<Instant>,
    /// It breaks then, and the server does not hear of it.
    pub(crate) breaks_at: Option<Instant>,
}

/// What is told of it.
pub(crate) enum Said {
    Opened,
    Message(Bytes),
    Gone(Gone),
}

/// One connection.
pub(crate) struct Lane {
    pub(crate) link: LinkId,
    pub(crate) addr: SocketAddr,
    pub(crate) server: SocketAddr,
    pub(crate) weather: Weather,
    caller: Caller,
    cut: Cut,
    unsent: BytesMut,
    stage: Stage,
    /// It may have something to tell or to send.
    stirred: bool,
}

impl Lane {
    /// Begins a handshake. `seed` decides the ids of the connection.
    pub(crate) fn new(
        link: LinkId,
        addr: SocketAddr,
        server: SocketAddr,
        trust: &Trust,
        seed: [u8; 32],
        now: Instant,
    ) -> Self {
        Self {
            link,
            addr,
            server,
            weather: Weather::default(),
            caller: Caller::new(trust, seed, now),
            cut: Cut::default(),
            unsent: BytesMut::new(),
            stage: Stage::Shaking(now + HANDSHAKE_WITHIN),
            stirred: true,
        }
    }

    /// A datagram arrived.
    pub(crate) fn hear(&mut self, bytes: &[u8], now: Instant) {
        if !self.weather.deaf {
            self.caller.hear(bytes, now);
            self.stirred = true;
        }
    }

    /// Sends frames on the stream.
    pub(crate) fn transmit(&mut self, payload: &[u8]) {
        self.unsent.extend_from_slice(payload);
        self.stirred = true;
    }

    /// Sends one beside the stream, if the server takes it.
    pub(crate) fn transmit_datagram(&mut self, payload: &Bytes) -> bool {
        self.stirred = true;
        matches!(self.stage, Stage::Open) && self.caller.send_datagram(payload.clone())
    }

    /// Ends it politely. Nothing more is told of it.
    pub(crate) fn leave(&mut self, code: u16, now: Instant) {
        if let Stage::Shaking(_) = self.stage {
            // As an app that lets a handshake go.
            self.caller.close(0, now);
            self.stage = Stage::Over;
        } else if !matches!(self.stage, Stage::Over) {
            self.stage = Stage::Leaving(code, now + CLOSE_WITHIN);
        }
        self.stirred = true;
    }

    /// It goes on from another address, and knows that if `told`.
    pub(crate) fn moved(&mut self, addr: SocketAddr, told: bool) {
        self.addr = addr;
        if told {
            self.caller.moved();
            self.stirred = true;
        }
    }

    /// Faults strike those that somebody is interested in.
    pub(crate) const fn is_held(&self) -> bool {
        matches!(self.stage, Stage::Shaking(_) | Stage::Open)
    }

    /// Nothing is left of it.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over) && self.caller.is_drained()
    }

    /// When something is to be done.
    pub(crate) fn next(&mut self) -> Option<Instant> {
        let stage = match self.stage {
            Stage::Shaking(at) | Stage::Ending(at) | Stage::Leaving(_, at) => Some(at),
            Stage::Open | Stage::Over => None,
        };
        let weather = [self.weather.unread_until, self.weather.breaks_at];
        [stage, self.caller.next_deadline()].into_iter().chain(weather).flatten().min()
    }

    /// What there is to tell, and the datagrams to send.
    pub(crate) fn work(&mut self, now: Instant) -> (Vec<Said>, Vec<Vec<u8>>) {
        let due = self.next().is_some_and(|at| at <= now);
        if !std::mem::take(&mut self.stirred) && !due {
            return (Vec::new(), Vec::new());
        }
        // What is due may be what the app is told of.
        let mut datagrams = self.caller.speak(now);
        let mut said = Vec::new();
        self.look(now, &mut said);
        datagrams.extend(self.caller.speak(now));
        if self.weather.dumb {
            datagrams.clear();
        }
        (said, datagrams)
    }

    fn look(&mut self, now: Instant, said: &mut Vec<Said>) {
        if self.weather.breaks_at.take_if(|at| *at <= now).is_some() {
            (self.weather.dumb, self.weather.deaf) = (true, true);
            self.caller.close(0, now);
            if self.is_told() {
                said.push(Said::Gone(Gone::Failed("the connection broke".into())));
            }
            self.stage = Stage::Over;
        }
        self.weather.unread_until.take_if(|at| *at <= now);
        if let Stage::Shaking(until) = self.stage {
            if self.caller.is_connected() && self.caller.open() {
                self.stage = Stage::Open;
                said.push(Said::Opened);
            } else if until <= now {
                self.caller.close(0, now);
                return self.over(Gone::Failed("no answer by QUIC".into()), said);
            }
        }
        self.write();
        if matches!(self.stage, Stage::Open) && self.weather.unread_until.is_none() {
            self.read(now, said);
        }
        match self.stage {
            Stage::Shaking(_) | Stage::Open | Stage::Ending(_) if self.caller.lost().is_some() => {
                let gone = self.reason();
                self.over(gone, said);
            }
            Stage::Ending(until) if until <= now => {
                self.caller.close(0, now);
                self.over(Gone::Closed { code: None, reason: String::new() }, said);
            }
            Stage::Leaving(code, until)
                if until <= now || self.caller.is_finished() || self.caller.lost().is_some() =>
            {
                self.caller.close(code, now);
                self.stage = Stage::Over;
            }
            Stage::Leaving(..) if self.unsent.is_empty() => self.caller.finish(),
            _ => {}
        }
    }

    /// Whether somebody is told what becomes of it.
    const fn is_told(&self) -> bool {
        matches!(self.stage, Stage::Shaking(_) | Stage::Open | Stage::Ending(_))
    }

    fn over(&mut self, gone: Gone, said: &mut Vec<Said>) {
        self.stage = Stage::Over;
        said.push(Said::Gone(gone));
    }

    fn write(&mut self) {
        while !self.unsent.is_empty() {
            match self.caller.write(&self.unsent) {
                0 => return,
                written => drop(self.unsent.split_to(written)),
            }
        }
    }

    fn read(&mut self, now: Instant, said: &mut Vec<Said>) {
        while let Some(datagram) = self.caller.datagram() {
            said.push(Said::Message(datagram));
        }
        while let Some(page) = self.caller.page() {
            said.push(Said::Message(page.into()));
        }
        let (bytes, ended) = self.caller.read();
        let (mut frames, mut at) = (BytesMut::new(), 0);
        while let Some(frame) = self.cut.next(&bytes, &mut at, MESSAGE_BYTES_MAX).expect("the node sends frames") {
            frames.extend_from_slice(frame);
        }
        if !frames.is_empty() {
            said.push(Said::Message(frames.freeze()));
        }
        if ended {
            self.stage = Stage::Ending(now + CLOSE_WITHIN);
        }
    }

    /// Why it was lost.
    fn reason(&self) -> Gone {
        match (self.caller.code(), self.caller.lost()) {
            (Some(code), _) => Gone::Closed { code: u16::try_from(code).ok(), reason: String::new() },
            (None, Some(error)) => Gone::Failed(error.to_string()),
            (None, None) => Gone::Failed("it is not lost".into()),
        }
    }
}
