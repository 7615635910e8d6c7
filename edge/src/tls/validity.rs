//! From when until when a certificate is valid: all that is read of one beside what TLS itself reads.

/// The days a certificate is valid, in seconds since the Unix epoch, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub not_before: i64,
    /// The last second.
    pub not_after: i64,
}

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

impl Validity {
    /// Reads it from a certificate in DER (RFC 5280 §4.1). `None`: it is none.
    #[must_use]
    pub fn of(der: &[u8]) -> Option<Self> {
        let mut certificate = Der(Der(der).take(SEQUENCE)?);
        let mut fields = Der(certificate.take(SEQUENCE)?);
        if fields.0.first() == Some(&VERSION) {
            fields.take(VERSION)?;
        }
        fields.take(INTEGER)?; // the serial number
        fields.take(SEQUENCE)?; // how it is signed
        fields.take(SEQUENCE)?; // by whom
        let mut times = Der(fields.take(SEQUENCE)?);
        Some(Self { not_before: times.time()?, not_after: times.time()? })
    }
}

/// The rest of a string of values.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// Takes the value in front, which has to be of type `tag`.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (&first, rest) = self.0.split_first()?;
        let (&short, rest) = rest.split_first()?;
        let (len, rest) = match short {
            0..=0x7f => (usize::from(short), rest),
            0x81..=0x84 => {
                let (len, rest) = rest.split_at_checked(usize::from(short & 0x7f))?;
                (len.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        (first == tag).then_some(value)
    }

    /// Takes a point in time, in the two ways RFC 5280 §4.1.2.5 allows: years of two digits until 2049, of four from 2050.
    fn time(&mut self) -> Option<i64> {
        let (year, rest) = match *self.0.first()? {
            UTC_TIME => {
                let (year, rest) = self.take(UTC_TIME)?.split_at_checked(2)?;
                let year = number(year)?;
                (if year < 50 { 2000 + year } else { 1900 + year }, rest)
            }
            _ => {
                let (year, rest) = self.take(GENERALIZED_TIME)?.split_at_checked(4)?;
                (number(year)?, rest)
            }
        };
        let [month, day, hour, minute, second] = match rest.strip_suffix(b"Z")? {
            parts if parts.len() == 10 => {
                let mut parts = parts.chunks(2).map(number);
                [(); 5].map(|()| parts.next().flatten())
            }
            _ => return None,
        };
        let (month, day, hour, minute, second) = (month?, day?, hour?, minute?, second?);
        let sane = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 61;
        sane.then(|| days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
    }
}

fn number(digits: &[u8]) -> Option<i64> {
    let digit = |sum: i64, byte: &u8| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0'));
    digits.iter().try_fold(0, digit)
}

/// Days from 1 January 1970. The year is thought to begin in March, so that a leap day is its last.
const fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month < 3 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use time::OffsetDateTime;

    use super::*;

    fn made(not_before: i64, not_after: i64) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["chat.example".to_owned()]).unwrap();
        params.not_before = OffsetDateTime::from_unix_timestamp(not_before).unwrap();
        params.not_after = OffsetDateTime::from_unix_timestamp(not_after).unwrap();
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn reads_what_was_written_on_both_sides_of_2050_and_on_leap_days() {
        for (not_before, not_after) in [
            (0, 951_782_399),                 // until the end of 28 February 2000
            (951_782_400, 951_868_799),       // 29 February 2000
            (1_700_000_000, 1_709_251_199),   // until the end of 29 February 2024
            (1_709_164_800, 2_524_607_999),   // until the last second of 2049
            (2_524_608_000, 4_107_542_400),   // from 2050 until 1 March 2100, which has no 29 February before it
            (1_795_305_600, 253_402_300_799), // for ever (RFC 5280 §4.1.2.5)
        ] {
            assert_eq!(Validity::of(&made(not_before, not_after)), Some(Validity { not_before, not_after }));
        }
    }

    #[test]
    fn what_is_cut_or_no_certificate_has_none_and_never_panics() {
        let whole = made(1_700_000_000, 1_800_000_000);
        for len in 0..whole.len() {
            assert_eq!(Validity::of(&whole[..len]), None, "{len} bytes");
        }
        for at in 0..whole.len().min(300) {
            for flip in [0x01, 0x80, 0xff] {
                let mut spoilt = whole.clone();
                spoilt[at] ^= flip;
                let _ = Validity::of(&spoilt);
            }
        }
    }
}
