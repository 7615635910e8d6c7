//! What a report is held to: `delivery.p99<250ms`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use crate::progress::time;

/// A bound on one number of the report.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    text: String,
    metric: String,
    operator: Operator,
    /// In the unit of the report: microseconds for times.
    bound: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Below,
    AtMost,
    Above,
    AtLeast,
    Is,
}

/// What came of a threshold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// As it was written.
    pub threshold: String,
    /// The number of the report; `None` if this run has none.
    pub value: Option<f64>,
    /// Microseconds, if it is a time.
    pub unit: Option<String>,
    /// Whether the bound holds. A number that is missing holds nothing.
    pub well: bool,
}

/// Numbers a threshold may name, and where the report has them.
const METRICS: &[(&str, &str)] = &[
    ("ack", "/ack_us/"),
    ("delivery", "/delivery_us/"),
    ("connect", "/connect_us/"),
    ("sends.", "/sends/"),
    ("sessions.", "/sessions/"),
    ("server.", "/server/"),
    ("generator.", "/generator/"),
    ("deliveries.", "/deliveries/"),
    ("setup.", "/setup/"),
    ("hold.", "/hold/"),
    ("heartbeats.", "/heartbeats/"),
    ("echo", "/echo/echo_us/"),
    ("echo.", "/echo/"),
    ("storm.", "/storm/"),
    ("drain.", "/drain/"),
];
const PARTS: &[&str] = &["p50", "p90", "p99", "p999", "max", "mean", "min", "count"];
const TOTALS: &[&str] = &["lost", "duplicated", "reordered", "caught_up", "unverified", "errors", "garbled"];

impl Held {
    /// The value as people read it.
    #[must_use]
    pub fn shown(&self) -> String {
        match (self.value, &self.unit) {
            (None, _) => "not measured".into(),
            (Some(us), Some(_)) => time(us.max(0.0).round() as u64),
            (Some(number), None) => format!("{number}"),
        }
    }
}

impl Threshold {
    /// Reads thresholds of our own.
    ///
    /// # Panics
    /// If one is malformed.
    #[must_use]
    pub fn all(texts: &[&str]) -> Vec<Self> {
        texts.iter().map(|text| text.parse().expect("a threshold of ours is well-formed")).collect()
    }

    /// The value above which it fails, in the unit of the report; `None` for lower bounds.
    #[must_use]
    pub fn upper_bound(&self) -> Option<f64> {
        matches!(self.operator, Operator::Below | Operator::AtMost).then_some(self.bound)
    }

    /// Holds a report to it.
    #[must_use]
    pub fn check(&self, report: &Value) -> Held {
        let value = match self.metric.as_str() {
            "errors" => {
                let codes = report["errors"].as_object();
                Some(codes.map_or(0, |codes| codes.values().filter_map(Value::as_u64).sum::<u64>()) as f64)
            }
            _ => pointer(&self.metric).and_then(|pointer| report.pointer(&pointer)).and_then(Value::as_f64),
        };
        let well = value.is_some_and(|value| match self.operator {
            Operator::Below => value < self.bound,
            Operator::AtMost => value <= self.bound,
            Operator::Above => value > self.bound,
            Operator::AtLeast => value >= self.bound,
            Operator::Is => value == self.bound,
        });
        Held { threshold: self.text.clone(), value, unit: is_time(&self.metric).then(|| "us".to_owned()), well }
    }
}

/// Whether a metric is a time in microseconds.
fn is_time(metric: &str) -> bool {
    let part = metric.split_once('.').filter(|(name, _)| ["ack", "delivery", "connect", "echo"].contains(name));
    part.is_some_and(|(_, part)| PARTS.contains(&part) && part != "count") || metric.contains("_us")
}

/// `p99_delivery` says the same as `delivery.p99`.
fn canonical(metric: &str) -> String {
    let Some((part, of)) = metric.split_once('_') else { return metric.to_owned() };
    let part = if part == "p99.9" { "p999" } else { part };
    let known = METRICS.iter().any(|(name, _)| *name == of);
    if known && PARTS.contains(&part) { format!("{of}.{part}") } else { metric.to_owned() }
}

/// Where the report has a metric; `None` for names that are not known.
fn pointer(metric: &str) -> Option<String> {
    if TOTALS.contains(&metric) {
        return Some(format!("/{metric}"));
    }
    METRICS.iter().find_map(|(name, place)| {
        let rest = metric.strip_prefix(name)?;
        match rest.strip_prefix('.') {
            Some(part) if PARTS.contains(&part) => Some(format!("{place}{part}")),
            None if name.ends_with('.') && !rest.is_empty() => Some(format!("{place}{rest}")),
            _ => None,
        }
    })
}

/// Why a text is no threshold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ThresholdError {
    /// No comparison in it.
    #[error("write it as delivery.p99<250ms, with <, <=, >, >= or ==")]
    NoOperator,
    /// A number the report does not have.
    #[error(
        "`{0}` is not known; there are delivery, ack and connect with .p50 .p90 .p99 .p999 .max .mean, sends.per_second, \
         sessions.held, lost, duplicated, reordered, caught_up, errors, server.… and generator.…"
    )]
    Metric(String),
    /// The bound is no number and no time.
    #[error("`{0}` is no number and no time such as 250ms")]
    Bound(String),
}

impl FromStr for Threshold {
    type Err = ThresholdError;

    fn from_str(text: &str) -> Result<Self, ThresholdError> {
        let at = text.find(['<', '>', '=']).ok_or(ThresholdError::NoOperator)?;
        let (metric, rest) = text.split_at(at);
        let (operator, bound) = [
            ("<=", Operator::AtMost),
            (">=", Operator::AtLeast),
            ("==", Operator::Is),
            ("<", Operator::Below),
            (">", Operator::Above),
        ]
        .into_iter()
        .find_map(|(sign, operator)| Some((operator, rest.strip_prefix(sign)?)))
        .ok_or(ThresholdError::NoOperator)?;
        let (metric, bound) = (canonical(metric.trim()), bound.trim());
        if pointer(&metric).is_none() {
            return Err(ThresholdError::Metric(metric));
        }
        let bound = match bound.parse::<f64>() {
            Ok(number) if number.is_finite() => number,
            _ => humantime::parse_duration(bound)
                .map(|time: Duration| time.as_secs_f64() * 1e6)
                .map_err(|_| ThresholdError::Bound(bound.to_owned()))?,
        };
        Ok(Self { text: text.trim().to_owned(), metric, operator, bound })
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Threshold {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Threshold {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bounds_are_held_in_microseconds() {
        let report = json!({
            "delivery_us": { "p99": 249_000 }, "sends": { "per_second": 2000.5 }, "lost": 0,
            "errors": { "400": 2, "503": 1 }, "server": { "user_bytes_per_session": null },
        });
        for (text, well) in [
            ("delivery.p99<250ms", true),
            ("delivery.p99 < 249ms", false),
            ("delivery.p99<=249ms", true),
            ("delivery.p99<=248999", false),
            ("sends.per_second>2000", true),
            ("sends.per_second>=2001", false),
            ("lost==0", true),
            ("errors==3", true),
            ("errors<3", false),
            ("p99_delivery < 250ms", true),
            ("p99_delivery < 249ms", false),
            // What was not measured holds nothing.
            ("ack.p50<1s", false),
            ("server.user_bytes_per_session<4000", false),
        ] {
            assert_eq!(text.parse::<Threshold>().unwrap().check(&report).well, well, "{text}");
        }
    }

    #[test]
    fn both_ways_to_name_a_percentile_are_one_threshold() {
        for (one, other) in [("p99_delivery<1s", "delivery.p99<1s"), ("p99.9_ack<1s", "ack.p999<1s")] {
            let (one, other): (Threshold, Threshold) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!((one.metric, one.bound), (other.metric, other.bound));
        }
        let read: Threshold = serde_json::from_value(json!("lost==0")).unwrap();
        assert_eq!((read.to_string().as_str(), read.upper_bound()), ("lost==0", None));
        assert_eq!("ack.p99<2ms".parse::<Threshold>().unwrap().upper_bound(), Some(2000.0));
        assert!(serde_json::from_value::<Threshold>(json!("lost")).is_err());
    }

    #[test]
    fn times_are_told_from_numbers() {
        for (metric, time) in [
            ("ack.p99", true),
            ("ack.count", false),
            ("generator.late_p99_us", true),
            ("sends.per_second", false),
            ("echo.per_second", false),
            ("echo.p50", true),
        ] {
            assert_eq!(is_time(metric), time, "{metric}");
        }
    }

    #[test]
    fn what_is_no_threshold_says_why() {
        for (text, error) in [
            ("delivery.p99", ThresholdError::NoOperator),
            ("delivery.p99=3", ThresholdError::NoOperator),
            ("delivery.p98<3", ThresholdError::Metric("delivery.p98".into())),
            ("delivery<3", ThresholdError::Metric("delivery".into())),
            ("p98_delivery<3", ThresholdError::Metric("p98_delivery".into())),
            ("p99_delivreies<3", ThresholdError::Metric("p99_delivreies".into())),
            ("sends.<3", ThresholdError::Metric("sends.".into())),
            ("lost<soon", ThresholdError::Bound("soon".into())),
            ("lost<", ThresholdError::Bound(String::new())),
        ] {
            assert_eq!(text.parse::<Threshold>(), Err(error), "{text}");
        }
    }
}
