//! Which extensions a client offers and which one is agreed on: RFC 6455 §9.1, RFC 7692 §7.1.

use super::handshake::HeadError;
use crate::limits::DEFLATE_BYTES_MIN;

/// What is no list of extensions.
const MALFORMED: HeadError = HeadError::Malformed("Sec-WebSocket-Extensions");
/// The only extension there is.
const NAME: &[u8] = b"permessage-deflate";
/// The windows that LZ77 may have, as powers of two (RFC 7692 §7.1.2).
const WINDOW_BITS: std::ops::RangeInclusive<u8> = 8..=15;

/// What both sides agreed on: permessage-deflate without context takeover in either direction.
///
/// We inflate with the largest window, so a client may compress with any. We compress with the largest as well: where
/// the client has asked for a smaller one, a message is compressed only if it is no longer than that window, and so
/// cannot refer beyond it ([`Deflate::admits`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deflate {
    /// The client's `server_max_window_bits`; 0 if it named none.
    server_window_bits: u8,
}

impl Deflate {
    /// Without limits of the client.
    pub const PLAIN: Self = Self { server_window_bits: 0 };

    /// The `server_max_window_bits` that the client asked for, 8 to 15. `None`: it did not.
    #[must_use]
    pub const fn server_max_window_bits(self) -> Option<u8> {
        if self.server_window_bits == 0 { None } else { Some(self.server_window_bits) }
    }

    /// Whether a message of `payload_bytes`, counted before it is compressed, is to be compressed: it is worth it, and fits
    /// the client's window.
    #[must_use]
    pub const fn admits(self, payload_bytes: usize) -> bool {
        let fits = self.server_window_bits == 0 || payload_bytes <= 1 << self.server_window_bits;
        fits && payload_bytes >= DEFLATE_BYTES_MIN
    }

    /// The value of `Sec-WebSocket-Extensions` that accepts the offer (RFC 7692 §7.1.1, §7.1.2.1).
    pub(super) fn response(self) -> String {
        let mut value = "permessage-deflate; server_no_context_takeover; client_no_context_takeover".to_owned();
        if let Some(bits) = self.server_max_window_bits() {
            value.push_str("; server_max_window_bits=");
            value.push_str(&bits.to_string());
        }
        value
    }
}

/// The first offer of permessage-deflate that can be kept, of all `Sec-WebSocket-Extensions` fields of a request.
/// `None`: there is none.
///
/// An offer with a parameter that RFC 7692 §7.1 does not know, knows with another value or allows once only is
/// declined, and the next one looked at.
///
/// # Errors
/// [`HeadError::Malformed`] for a field that is no list of extensions: such a connection fails (RFC 6455 §9.1).
pub(super) fn choose<'a>(fields: impl Iterator<Item = &'a [u8]>) -> Result<Option<Deflate>, HeadError> {
    let mut chosen = None;
    for field in fields {
        let mut list = Reader(field);
        let mut offers = 0;
        while let Some(offer) = list.offer()? {
            offers += 1;
            chosen = chosen.or(offer);
        }
        if offers == 0 {
            return Err(MALFORMED);
        }
    }
    Ok(chosen)
}

/// Takes one of the parameters of an offer. False: the offer is to be declined (RFC 7692 §7.1).
fn take(deflate: &mut Deflate, seen: &mut u8, name: &[u8], value: Option<&[u8]>) -> bool {
    let (bit, fits) = match name {
        // Both directions go without in any case.
        b"server_no_context_takeover" => (1, value.is_none()),
        b"client_no_context_takeover" => (2, value.is_none()),
        b"server_max_window_bits" => match value.and_then(window_bits) {
            Some(bits) => {
                deflate.server_window_bits = bits;
                (4, true)
            }
            None => (4, false),
        },
        // A window that is smaller than ours is no matter to us; without a value it only says that we might ask.
        b"client_max_window_bits" => (8, value.is_none_or(|value| window_bits(value).is_some())),
        _ => return false,
    };
    let again = *seen & bit != 0;
    *seen |= bit;
    fits && !again
}

/// A decimal number from 8 to 15 without leading zeroes (RFC 7692 §7.1.2).
fn window_bits(value: &[u8]) -> Option<u8> {
    let bits = match value {
        [one] if one.is_ascii_digit() => one - b'0',
        [b'1', one] if one.is_ascii_digit() => 10 + one - b'0',
        _ => return None,
    };
    WINDOW_BITS.contains(&bits).then_some(bits)
}

/// What is left to read of a field.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The next element of the list: permessage-deflate as offered, or `None` if it is another one or cannot be kept.
    /// `Ok(None)`: the list is over.
    fn offer(&mut self) -> Result<Option<Option<Deflate>>, HeadError> {
        self.blanks();
        // RFC 9110 §5.6.1.2: empty elements are passed over.
        while self.eat(b',') {
            self.blanks();
        }
        if self.0.is_empty() {
            return Ok(None);
        }
        let mut deflate = (self.token()? == NAME).then_some(Deflate::PLAIN);
        let mut seen = 0;
        loop {
            self.blanks();
            if !self.eat(b';') {
                break;
            }
            self.blanks();
            let name = self.token()?;
            self.blanks();
            let value = if self.eat(b'=') { Some(self.value()?) } else { None };
            if let Some(terms) = &mut deflate
                && !take(terms, &mut seen, name, value)
            {
                deflate = None;
            }
        }
        if self.0.is_empty() || self.eat(b',') { Ok(Some(deflate)) } else { Err(MALFORMED) }
    }

    fn blanks(&mut self) {
        self.0 = self.0.trim_ascii_start();
    }

    fn eat(&mut self, byte: u8) -> bool {
        let rest = self.0.strip_prefix(&[byte]);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn token(&mut self) -> Result<&'a [u8], HeadError> {
        let len = self.0.iter().take_while(|byte| is_token(**byte)).count();
        let (token, rest) = self.0.split_at(len);
        self.0 = rest;
        if token.is_empty() { Err(MALFORMED) } else { Ok(token) }
    }

    /// A token, or one in quotes. Escapes stay as they are: no value of ours has a character that needs one.
    fn value(&mut self) -> Result<&'a [u8], HeadError> {
        self.blanks();
        if !self.eat(b'"') {
            return self.token();
        }
        let len = self.0.iter().take_while(|byte| is_token(**byte) || **byte == b'\\').count();
        let (value, rest) = self.0.split_at(len);
        self.0 = rest;
        if value.is_empty() || !self.eat(b'"') { Err(MALFORMED) } else { Ok(value) }
    }
}

/// RFC 9110 §5.6.2.
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(fields: &[&str]) -> Result<Option<Deflate>, HeadError> {
        choose(fields.iter().map(|field| field.as_bytes()))
    }

    fn with_window(bits: u8) -> Option<Deflate> {
        Some(Deflate { server_window_bits: bits })
    }

    #[test]
    fn takes_the_first_offer_that_can_be_kept() {
        let plain = Some(Deflate::PLAIN);
        for (fields, want) in [
            (&[][..], None),
            (&["permessage-deflate"][..], plain),
            (&["permessage-deflate; client_max_window_bits"], plain), // Chromium
            (&["permessage-deflate;client_max_window_bits=10 ;server_no_context_takeover"], plain),
            (&["permessage-deflate; server_max_window_bits=8"], with_window(8)),
            (&["permessage-deflate; server_max_window_bits=\"15\""], with_window(15)),
            (&["x-webkit-deflate-frame, permessage-deflate"], plain),
            (&["foo; a=\"b\"; c , ,\tpermessage-deflate"], plain),
            (&["foo", "permessage-deflate; server_max_window_bits=9"], with_window(9)),
            // RFC 7692 §7.1: declined, and the next one looked at.
            (&["permessage-deflate; server_max_window_bits=10, permessage-deflate"], with_window(10)),
            (&["permessage-deflate; server_max_window_bits=7, permessage-deflate"], plain),
            (&["permessage-deflate; server_max_window_bits=16"], None),
            (&["permessage-deflate; server_max_window_bits=08"], None),
            (&["permessage-deflate; server_max_window_bits=010"], None),
            (&["permessage-deflate; server_max_window_bits=1x"], None),
            (&["permessage-deflate; server_max_window_bits=\"1\\0\""], None),
            (&["permessage-deflate; server_max_window_bits"], None),
            (&["permessage-deflate; client_max_window_bits=16"], None),
            (&["permessage-deflate; client_max_window_bits=0"], None),
            (&["permessage-deflate; server_no_context_takeover=1"], None),
            (&["permessage-deflate; client_no_context_takeover=true"], None),
            (&["permessage-deflate; server_no_context_takeover; server_no_context_takeover"], None),
            (&["permessage-deflate; client_max_window_bits; client_max_window_bits=10"], None),
            (&["permessage-deflate; level=9, permessage-deflate; server_max_window_bits=12"], with_window(12)),
            (&["Permessage-Deflate"], None),
        ] {
            assert_eq!(chosen(fields), Ok(want), "{fields:?}");
        }
    }

    #[test]
    fn a_field_that_is_no_list_of_extensions_fails_the_connection() {
        for field in [
            "",
            " ",
            ",",
            ";",
            "=",
            "permessage-deflate;",
            "permessage-deflate; ;",
            "permessage-deflate; a=",
            "permessage-deflate; a=\"",
            "permessage-deflate; a=\"\"",
            "permessage-deflate; a=\"b c\"",
            "a b",
            "a/b",
            "permessage-deflate, foo bar",
            "\"permessage-deflate\"",
            "p\u{e9}",
        ] {
            assert_eq!(chosen(&[field]), Err(MALFORMED), "{field:?}");
            assert_eq!(chosen(&["permessage-deflate", field]), Err(MALFORMED), "{field:?} in a second field");
        }
    }

    #[test]
    fn a_small_window_admits_what_is_no_longer() {
        assert!(Deflate::PLAIN.admits(1 << 20) && Deflate::PLAIN.admits(64) && !Deflate::PLAIN.admits(63));
        let small = Deflate { server_window_bits: 8 };
        assert!(small.admits(256) && !small.admits(257));
    }

    #[test]
    fn the_answer_says_what_holds() {
        let both = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        assert_eq!(Deflate::PLAIN.response(), both);
        let small = Deflate { server_window_bits: 9 };
        assert_eq!(small.response(), format!("{both}; server_max_window_bits=9"));
    }
}
