//! What the kernel keeps for sockets, by cache, from /proc/slabinfo: only root may read it.

use std::collections::BTreeMap;

/// Bytes of each cache that is in use at all. Empty where it cannot be read.
pub(crate) fn read() -> BTreeMap<String, u64> {
    std::fs::read_to_string("/proc/slabinfo").map(|text| parse(&text)).unwrap_or_default()
}

/// Form 2.1: `name <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables … : slabdata <active_slabs> …`.
/// Bytes are those of whole objects in use or ready, as they are what memory is gone for.
fn parse(text: &str) -> BTreeMap<String, u64> {
    let caches = text.lines().skip(2).filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let name = fields.next()?;
        let number = |field: Option<&str>| field?.parse::<u64>().ok();
        let (_active, objects, size) = (number(fields.next())?, number(fields.next())?, number(fields.next())?);
        let bytes = objects * size;
        (bytes > 0).then(|| (name.to_owned(), bytes))
    });
    let mut sum = BTreeMap::new();
    for (name, bytes) in caches {
        *sum.entry(name).or_default() += bytes;
    }
    sum
}

/// What a cache is for, in a word that people know; `None` for those that connections do not use.
pub(crate) fn of_connections(name: &str) -> Option<&'static str> {
    Some(match name {
        "TCP" | "TCPv6" | "request_sock_TCP" | "request_sock_TCPv6" | "tw_sock_TCP" | "tw_sock_TCPv6"
        | "tcp_bind_bucket" | "tcp_bind2_bucket" => "TCP sockets",
        "UDP" | "UDPv6" => "UDP sockets",
        "sock_inode_cache" | "filp" | "dentry" => "files of sockets",
        "eventpoll_epi" | "eventpoll_pwq" | "eventpoll_epitem" => "polls",
        "io_kiocb" => "requests of io_uring",
        name if name.starts_with("skbuff") => "packets",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_read_as_the_kernel_writes_them() {
        let text = "slabinfo - version: 2.1\n# name <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>\n\
            TCP                   16     26   2432   13    8 : tunables    0    0    0 : slabdata      2      2      0\n\
            empty                  0      0     64   64    1 : tunables    0    0    0 : slabdata      0      0      0\n";
        let caches = parse(text);
        assert_eq!(caches.get("TCP"), Some(&(26 * 2432)));
        assert_eq!((caches.len(), of_connections("TCP"), of_connections("dma")), (1, Some("TCP sockets"), None));
        assert!(parse("").is_empty());
    }
}
