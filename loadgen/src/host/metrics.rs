//! A server's own counters: what its admin address answers to `/metrics`, in the text form of Prometheus.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long an admin page may take.
const ADMIN_WITHIN: Duration = Duration::from_secs(2);
/// Longest page that is read.
const PAGE_BYTES_MAX: u64 = 4 << 20;

/// Values of series, by name with labels: `name{reason="x"}`.
pub(crate) type Series = BTreeMap<String, f64>;

/// Asks for `path` and returns the body of the answer, whatever its status; `None` if there is none in time.
pub(crate) fn get(admin: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&admin, ADMIN_WITHIN).ok()?;
    stream.set_read_timeout(Some(ADMIN_WITHIN)).ok()?;
    // HTTP/1.0: the answer ends with the connection, and is not in chunks.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {admin}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    stream.take(PAGE_BYTES_MAX).read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8(answer).ok()?;
    Some(answer.split_once("\r\n\r\n")?.1.to_owned())
}

/// All series of a server; `None` if it does not tell.
pub(crate) fn scrape(admin: SocketAddr) -> Option<Series> {
    Some(parse(&get(admin, "/metrics")?)).filter(|series| !series.is_empty())
}

/// Reads the text form. Lines that are none are passed over.
pub(crate) fn parse(page: &str) -> Series {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let series = lines.filter_map(|line| {
        let (name, value) = line.trim_end().rsplit_once(' ')?;
        Some((name.to_owned(), value.parse::<f64>().ok().filter(|value| value.is_finite())?))
    });
    series.collect()
}

/// The sum over all labels of one metric; `None` if there is none.
pub(crate) fn sum(series: &Series, metric: &str) -> Option<f64> {
    let mut of = series.iter().filter(|(name, _)| name.split('{').next() == Some(metric)).map(|(_, value)| value);
    let first = *of.next()?;
    Some(first + of.sum::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_metrics_are_read_with_their_labels() {
        let page = "# HELP a_total x\n# TYPE a_total counter\na_total{reason=\"x y\"} 3\na_total{reason=\"z\"} 4\n\
                    b 1e3\nnonsense\nc NaN\n";
        let series = parse(page);
        assert_eq!(series.len(), 3, "{series:?}");
        assert_eq!(sum(&series, "a_total"), Some(7.0));
        assert_eq!(series["a_total{reason=\"x y\"}"], 3.0);
        assert_eq!((sum(&series, "b"), sum(&series, "c")), (Some(1000.0), None));
    }
}
