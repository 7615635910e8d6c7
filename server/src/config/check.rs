//! What makes no sense is refused with its name and the reason.

use std::time::Duration;

use roost_edge_core::config::OriginPolicy;
use tracing_subscriber::EnvFilter;

use super::{Config, ConfigError, QuicListen, Role, RoutersAt, StoreAt};

pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    let refuse = |key, reason: String| Err(ConfigError::Value { key, reason });

    if config.node.is_empty() || config.node.len() > 64 || !config.node.bytes().all(|byte| byte.is_ascii_graphic()) {
        return refuse("node", "a name of 1 to 64 visible ASCII characters is needed".into());
    }
    if config.listen == config.admin && config.listen.port() != 0 {
        return refuse("admin", format!("{} is the address of `listen` already; give it another port", config.admin));
    }
    check_role(config)?;
    let named = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if config.fleet.is_empty() || config.fleet.len() > 64 || !config.fleet.bytes().all(named) {
        return refuse("fleet", "a name of 1 to 64 of A-Z a-z 0-9 - _ is needed".into());
    }
    match (&config.tls_cert, &config.tls_key) {
        (Some(_), None) => return refuse("tls_key", "the private key of `tls_cert` is needed as well".into()),
        (None, Some(_)) => return refuse("tls_cert", "the certificate of `tls_key` is needed as well".into()),
        (Some(_), Some(_)) if config.dev_tls => {
            return refuse("dev_tls", "there is a certificate in `tls_cert` already: choose one of them".into());
        }
        _ => {}
    }
    let has_tls = config.dev_tls || config.tls_cert.is_some();
    if matches!(config.quic, QuicListen::At(_)) && !has_tls {
        return refuse("quic", "QUIC needs a certificate: set `tls_cert` and `tls_key`, or `dev_tls`".into());
    }
    if config.shards > usize::from(roost_wire::link::SessionKey::SHARDS_MAX) {
        return refuse("shards", format!("at most {}", roost_wire::link::SessionKey::SHARDS_MAX));
    }
    if config.connections_max == 0 {
        return refuse("connections_max", "at least 1".into());
    }
    if config.unauthenticated_max == 0 {
        return refuse("unauthenticated_max", "at least 1, or nobody could come in".into());
    }
    for (key, value, least, most) in [
        ("frame_bytes_max", config.frame_bytes_max, 1024, 16 * 1024 * 1024),
        ("outbound_bytes_max", config.outbound_bytes_max, 16 * 1024, 64 * 1024 * 1024),
    ] {
        if !(least..=most).contains(&value) {
            return refuse(key, format!("{value} is not between {least} and {most} bytes"));
        }
    }
    for (key, value, least, most) in [
        ("heartbeat", config.heartbeat, Duration::from_secs(1), Duration::from_secs(3600)),
        ("connect_within", config.connect_within, Duration::from_millis(100), Duration::from_secs(300)),
        ("guest_token_ttl", config.guest_token_ttl, Duration::from_secs(60), Duration::from_secs(3650 * 24 * 3600)),
        ("drain_window", config.drain_window, Duration::ZERO, Duration::from_secs(3600)),
        ("drain_deadline", config.drain_deadline, config.drain_window, Duration::from_secs(4000)),
    ] {
        if !(least..=most).contains(&value) {
            let (least, most) = (humantime::format_duration(least), humantime::format_duration(most));
            let value = humantime::format_duration(value);
            return refuse(key, format!("{value} is not between {least} and {most}"));
        }
    }
    if config.sends_burst == 0 && config.sends_per_second > 0 {
        return refuse("sends_burst", "at least 1, or nobody could send".into());
    }
    if let OriginPolicy::Listed(origins) = &config.origins {
        for origin in origins {
            let scheme = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
            if scheme.is_none_or(|host| host.is_empty() || host.contains(['/', '*'])) {
                return refuse("origins", format!("\"{origin}\" is no origin; write it as https://chat.example.org"));
            }
        }
    }
    if let Err(error) = EnvFilter::try_new(&config.log) {
        return refuse("log", format!("\"{}\": {error}", config.log));
    }
    Ok(())
}

/// What a role needs, and what it has no use for.
fn check_role(config: &Config) -> Result<(), ConfigError> {
    let refuse = |key, reason: &str| Err(ConfigError::Value { key, reason: reason.to_owned() });
    if config.role == Role::Edge {
        if config.store != StoreAt::Embedded {
            return refuse("store", "an edge has none: its routers do");
        }
        if config.grpc.is_some() {
            return refuse("grpc", "an edge calls routers, nobody calls it; leave it out, or set `role` to all");
        }
        if config.redis.is_none() && !matches!(config.routers, Some(RoutersAt::Named(_))) {
            return refuse("routers", "an edge needs to know where they are: host:port, dns:NAME:PORT, or set `redis`");
        }
    } else {
        if config.redis.is_some() && config.store == StoreAt::Embedded {
            let reason =
                "other nodes cannot read a store in a directory of this one; set `store` to a CQL keyspace as well";
            return refuse("redis", reason);
        }
        if config.routers.is_some() {
            return refuse("routers", "only an edge has routers elsewhere: set `role` to edge, or leave it out");
        }
    }
    if config.role == Role::Router && config.grpc.is_none() {
        return refuse("grpc", "a router is reached by gRPC: give it an address, as 0.0.0.0:7000");
    }
    let of_tls = [&config.grpc_cert, &config.grpc_key, &config.grpc_ca].map(Option::is_some);
    match of_tls.iter().position(|given| !given) {
        Some(missing) if of_tls.contains(&true) => refuse(
            ["grpc_cert", "grpc_key", "grpc_ca"][missing],
            "TLS between nodes needs a certificate, its key, and who signs them",
        ),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layer;

    #[test]
    fn defaults_are_well() {
        assert!(check(&Config::default()).is_ok());
    }

    #[test]
    fn each_wrong_setting_is_refused_by_name() {
        for (toml, key) in [
            ("node = ''", "node"),
            ("listen = '127.0.0.1:1'\nadmin = '127.0.0.1:1'", "admin"),
            ("connections_max = 0", "connections_max"),
            ("unauthenticated_max = 0", "unauthenticated_max"),
            ("tls_cert = 'cert.pem'", "tls_key"),
            ("tls_key = 'key.pem'", "tls_cert"),
            ("quic = '127.0.0.1:443'", "quic"),
            ("tls_cert = 'cert.pem'\ntls_key = 'key.pem'\ndev_tls = true", "dev_tls"),
            ("frame_bytes_max = 10", "frame_bytes_max"),
            ("heartbeat = '1ms'", "heartbeat"),
            ("drain_window = '20s'\ndrain_deadline = '10s'", "drain_deadline"),
            ("redis = 'redis://127.0.0.1:6379'", "redis"),
            ("fleet = 'a/b'", "fleet"),
            ("role = 'router'", "grpc"),
            ("role = 'edge'", "routers"),
            ("role = 'edge'\nrouters = 'redis'", "routers"),
            ("role = 'edge'\nrouters = 'r1:7000'\ngrpc = '127.0.0.1:7000'", "grpc"),
            ("role = 'edge'\nrouters = 'r1:7000'\nstore = 'cql://db1/chat'", "store"),
            ("routers = 'r1:7000'", "routers"),
            ("grpc_cert = 'a.pem'\ngrpc_key = 'b.pem'", "grpc_ca"),
            ("sends_burst = 0", "sends_burst"),
            ("origins = 'chat.example.org'", "origins"),
            ("origins = 'https://*.example.org'", "origins"),
            ("log = 'a=b=c'", "log"),
        ] {
            let layer: Layer = toml::from_str(toml).unwrap();
            let error = check(&layer.into_config()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{key}: ")), "{toml}: {error}");
        }
    }

    #[test]
    fn unknown_keys_and_bad_values_name_the_place() {
        for (toml, part) in [
            ("listne = '127.0.0.1:1'", "listne"),
            ("addresses_exempt = '10.0.0.0/33'", "10.0.0.0/33"),
            ("quic = 'everywhere'", "auto or off"),
            ("heartbeat = 'soon'", "soon"),
            ("memory_reserve = '60%'", "at most 50%"),
            ("listen = 'here'", "line 1"),
        ] {
            let error = toml::from_str::<Layer>(toml).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let flags: Layer = toml::from_str("node = 'flag'").unwrap();
        let file: Layer = toml::from_str("node = 'file'\nshards = 3").unwrap();
        let config = flags.or(file).into_config();
        assert_eq!((config.node.as_str(), config.shards), ("flag", 3));
    }
}
