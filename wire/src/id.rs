//! Ids of users and conversations: short strings of a safe alphabet, kept inline.
//!
//! Ids that Roost makes are `u_` or `c_` and 22 characters of lower-case base32 (110 bits), so that they fit the 24
//! bytes that [`CompactString`] holds without an allocation. Ids that come from elsewhere (the `sub` of a token made
//! by another system, the name of a channel) may have up to [`ID_BYTES_MAX`] bytes.

use std::fmt;

use compact_str::CompactString;

/// Longest id accepted, in bytes.
pub const ID_BYTES_MAX: usize = 64;

/// Why a string is no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// The string is empty or longer than [`ID_BYTES_MAX`].
    #[error("an id has 1 to {ID_BYTES_MAX} bytes, this one has {0}")]
    Length(usize),
    /// A character outside `A-Z a-z 0-9 . _ : @ -`.
    #[error("an id may hold A-Z a-z 0-9 . _ : @ - only")]
    Character,
    /// A channel name that looks like the id of a user or a conversation.
    #[error("a channel name may not begin with c_ or u_")]
    Reserved,
}

fn check(text: &str) -> Result<(), IdError> {
    if text.is_empty() || text.len() > ID_BYTES_MAX {
        return Err(IdError::Length(text.len()));
    }
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"._:@-".contains(&byte);
    if text.bytes().all(safe) { Ok(()) } else { Err(IdError::Character) }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
        #[serde(transparent)]
        pub struct $name(CompactString);

        impl $name {
            /// Checks `text` and takes it as an id.
            ///
            /// # Errors
            /// [`IdError`] if the length or a character is not allowed.
            pub fn new(text: &str) -> Result<Self, IdError> {
                check(text)?;
                Ok(Self(CompactString::new(text)))
            }

            /// Makes an id from 110 of the 128 bits of `bits`, which the caller draws at random or by hashing.
            #[must_use]
            pub fn from_bits(bits: u128) -> Self {
                const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
                let mut id = CompactString::with_capacity(24);
                id.push_str($prefix);
                for place in 0..22 {
                    id.push(char::from(ALPHABET[((bits >> (place * 5)) & 31) as usize]));
                }
                Self(id)
            }

            /// The id as it stands on the wire.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.into()
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                struct Text;

                impl serde::de::Visitor<'_> for Text {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("an id")
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        $name::new(text).map_err(E::custom)
                    }
                }

                input.deserialize_str(Text)
            }
        }
    };
}

id!(
    /// Names a user. Ids made by Roost begin with `u_`.
    UserId,
    "u_"
);
id!(
    /// Names a conversation: `c_…` for direct ones and groups; a channel's name stands for the channel.
    ConvId,
    "c_"
);

impl ConvId {
    /// Checks `name` and takes it as the conversation of a channel.
    ///
    /// # Errors
    /// [`IdError`] as for [`ConvId::new`], and [`IdError::Reserved`] for names that look like other ids.
    pub fn channel(name: &str) -> Result<Self, IdError> {
        if name.starts_with("c_") || name.starts_with("u_") {
            return Err(IdError::Reserved);
        }
        Self::new(name)
    }

    /// True for the id of a channel.
    #[must_use]
    pub fn is_channel(&self) -> bool {
        !self.0.starts_with("c_")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_ids_have_24_bytes_and_are_ids() {
        for bits in [0, 1, u128::MAX, 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef] {
            let user = UserId::from_bits(bits);
            assert_eq!(user.as_str().len(), 24);
            assert_eq!(UserId::new(user.as_str()), Ok(user));
        }
        assert_ne!(ConvId::from_bits(1), ConvId::from_bits(2));
    }

    #[test]
    fn refuses_what_is_no_id() {
        for (text, error) in [
            ("", IdError::Length(0)),
            ("a b", IdError::Character),
            ("ä", IdError::Character),
            ("a\0", IdError::Character),
        ] {
            assert_eq!(UserId::new(text), Err(error), "{text:?}");
        }
        assert_eq!(UserId::new(&"x".repeat(65)), Err(IdError::Length(65)));
        assert_eq!(ConvId::channel("c_1"), Err(IdError::Reserved));
        assert!(ConvId::channel("news").is_ok_and(|conv| conv.is_channel()));
    }
}
