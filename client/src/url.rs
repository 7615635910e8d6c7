//! Addresses of servers as people write them.

use std::fmt;

use http::Uri;

/// Where the socket is, by default.
const PATH: &str = "/ws";

/// Why an address cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// Not an address at all, or without a host.
    #[error("`{0}` is no address of a server: write https://HOST or wss://HOST/ws, or http:// and ws:// without TLS")]
    Malformed(String),
}

/// The address of a server's socket: `ws://host:port/path`, or `wss://` with TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    uri: Uri,
    host: String,
    port: u16,
}

impl Url {
    /// Reads `http://host:port`, `ws://host:port` or `ws://host:port/path`, with `https` or `wss` where TLS is spoken. Without
    /// a path it is `/ws`, without a port 80 or 443.
    ///
    /// # Errors
    /// [`UrlError`]: it is no such address.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let malformed = || UrlError::Malformed(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| malformed())?;
        let (scheme, default_port) = match uri.scheme_str() {
            Some("http" | "ws") => ("ws", 80),
            Some("https" | "wss") => ("wss", 443),
            _ => return Err(malformed()),
        };
        let authority = uri.authority().ok_or_else(malformed)?;
        // A user name or password in an address would end up in logs.
        if authority.host().is_empty() || authority.as_str().contains('@') || uri.query().is_some() {
            return Err(malformed());
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        // `Authority::port` hides a port that is none.
        let port = match authority.as_str().strip_prefix(authority.host()).unwrap_or_default() {
            "" => default_port,
            port => port.trim_start_matches(':').parse().map_err(|_| malformed())?,
        };
        let path = if uri.path() == "/" { PATH } else { uri.path() };
        let uri = Uri::builder()
            .scheme(scheme)
            .authority(authority.as_str())
            .path_and_query(path)
            .build()
            .map_err(|_| malformed())?;
        Ok(Self { uri, host, port })
    }

    /// Host name or address, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Host and port as they were written, for a `Host` field.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.uri.authority().map_or("", http::uri::Authority::as_str)
    }

    /// Whether TLS is spoken there.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.uri.scheme_str() == Some("wss")
    }

    pub(crate) const fn uri(&self) -> &Uri {
        &self.uri
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uri.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_addresses_as_people_write_them() {
        for (text, want, host, port) in [
            ("http://127.0.0.1:8080", "ws://127.0.0.1:8080/ws", "127.0.0.1", 8080),
            ("http://127.0.0.1:8080/", "ws://127.0.0.1:8080/ws", "127.0.0.1", 8080),
            ("ws://chat.example", "ws://chat.example/ws", "chat.example", 80),
            ("ws://chat.example:81/edge/ws", "ws://chat.example:81/edge/ws", "chat.example", 81),
            ("https://chat.example", "wss://chat.example/ws", "chat.example", 443),
            ("wss://chat.example:8443/edge/ws", "wss://chat.example:8443/edge/ws", "chat.example", 8443),
            ("http://[::1]:8080", "ws://[::1]:8080/ws", "::1", 8080),
        ] {
            let url = Url::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((url.to_string().as_str(), url.host(), url.port()), (want, host, port), "{text}");
            assert_eq!(url.is_tls(), want.starts_with("wss:"), "{text}");
        }
    }

    #[test]
    fn refuses_what_it_cannot_reach_and_says_why() {
        for text in ["", "127.0.0.1:8080", "ftp://x", "/ws", "http://", "ws://a:b@host/", "ws://h:99999", "ws://h?t=1"]
        {
            assert!(matches!(Url::parse(text), Err(UrlError::Malformed(_))), "{text}");
        }
    }
}
