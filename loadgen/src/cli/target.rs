//! Where a load goes: `--target`, with the protocol that is spoken there before it.

use std::ops::Deref;

use clap::ValueEnum as _;
use roost_client::url::Url;

use crate::scenario::Dialect;

/// Nodes to put under load: the first one, and others of its fleet.
#[derive(Clone, Debug)]
pub(super) struct Targets {
    first: Url,
    pub(super) others: Vec<Url>,
    /// What they speak, if it stands there.
    pub(super) dialect: Option<Dialect>,
    /// By QUIC: `quic://`.
    pub(super) quic: bool,
}

impl Deref for Targets {
    type Target = Url;

    fn deref(&self) -> &Url {
        &self.first
    }
}

/// `[PROTOCOL:]URL[,URL…]`.
pub(super) fn targets(text: &str) -> Result<Targets, String> {
    let (dialect, rest) = match text.split_once(':') {
        // `host:80` and `http://…` begin with a word and a colon too.
        Some((word, rest)) if !rest.starts_with("//") && rest.contains("://") => {
            let dialect = Dialect::from_str(word, true).map_err(|_| {
                let words = Dialect::value_variants().iter().map(|dialect| dialect.word()).collect::<Vec<_>>();
                format!("`{word}` is no protocol known here: before the URL there may be {}", words.join(", "))
            })?;
            (Some(dialect), rest)
        }
        _ => (None, text),
    };
    let quic = rest.trim_start().starts_with("quic://");
    if quic && dialect.is_some_and(|dialect| dialect != Dialect::Roost) {
        return Err("by QUIC there is nothing but roost".into());
    }
    let mut urls = rest.split(',').map(|text| url(text.trim()));
    let first = urls.next().unwrap_or_else(|| Err("a URL is needed".to_owned()))?;
    Ok(Targets { first, others: urls.collect::<Result<_, _>>()?, dialect, quic })
}

/// An address of a server; without a scheme it is `http://`.
pub(super) fn url(text: &str) -> Result<Url, String> {
    let whole = match text.split_once("://") {
        Some(("quic", rest)) => format!("https://{rest}"),
        Some(_) => text.to_owned(),
        None => format!("http://{text}"),
    };
    match Url::parse(&whole) {
        Ok(url) => Ok(url),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_may_say_what_it_speaks() {
        for (text, dialect, url) in [
            ("127.0.0.1:8080", None, "ws://127.0.0.1:8080/ws"),
            ("http://127.0.0.1:8080", None, "ws://127.0.0.1:8080/ws"),
            ("roost:https://example.org", Some(Dialect::Roost), "wss://example.org/ws"),
            ("quic://example.org:7443", None, "wss://example.org:7443/ws"),
            (
                "centrifugo:ws://h:8000/connection/websocket",
                Some(Dialect::Centrifugo),
                "ws://h:8000/connection/websocket",
            ),
            ("nats:ws://h:1/", Some(Dialect::Nats), "ws://h:1/ws"),
            ("mqtt:ws://h:1/mqtt", Some(Dialect::Mqtt), "ws://h:1/mqtt"),
            ("plain:ws://h:1/x", Some(Dialect::Plain), "ws://h:1/x"),
        ] {
            let targets = targets(text).unwrap();
            assert_eq!((targets.dialect, targets.to_string().as_str()), (dialect, url), "{text}");
        }
        assert!(targets("quic://h").unwrap().quic);
        assert!(targets("kafka:ws://h").unwrap_err().contains("centrifugo"));
        assert!(targets("mqtt:quic://h").is_err());
        assert_eq!(targets("http://a,http://b").unwrap().others.len(), 1);
    }
}
