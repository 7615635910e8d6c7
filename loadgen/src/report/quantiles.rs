//! Distributions of times, as numbers and as curves.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// A distribution of times in microseconds. All `None` if there were none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Quantiles {
    pub count: u64,
    pub min: Option<u64>,
    pub mean: Option<f64>,
    pub p50: Option<u64>,
    pub p90: Option<u64>,
    pub p99: Option<u64>,
    pub p999: Option<u64>,
    pub max: Option<u64>,
}

impl Quantiles {
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        let at = |quantile| Some(histogram.value_at_quantile(quantile));
        Self {
            count: histogram.len(),
            min: Some(histogram.min()),
            mean: Some((histogram.mean() * 10.0).round() / 10.0),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: Some(histogram.max()),
        }
    }
}

/// Points `[quantile, microseconds]` of a distribution.
pub(crate) type Curve = Vec<(f64, u64)>;

/// Latencies at rising quantiles.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Curves {
    pub ack: Curve,
    pub delivery: Curve,
    pub connect: Curve,
    /// From a text to its echo.
    pub echo: Curve,
}

/// A histogram as a curve: denser where 1 - quantile is small, up to the last quantile that the count supports.
pub(crate) fn curve(histogram: &Histogram<u64>) -> Curve {
    const STEPS_PER_DECADE: i32 = 16;
    if histogram.is_empty() {
        return Vec::new();
    }
    let decades = (histogram.len() as f64).log10().min(7.0);
    let steps = (decades * f64::from(STEPS_PER_DECADE)).floor() as i32;
    // Nine digits are as many as seven decades need, and are read again as they were written.
    let round = |quantile: f64| (quantile * 1e9).round() / 1e9;
    let quantiles = (0..=steps).map(|step| round(1.0 - 10f64.powf(-f64::from(step) / f64::from(STEPS_PER_DECADE))));
    quantiles.map(|quantile| (quantile, histogram.value_at_quantile(quantile))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_rises_and_ends_where_the_count_does() {
        let mut histogram = Histogram::new(3).unwrap();
        for us in 1..=1000 {
            histogram.record(us).unwrap();
        }
        let curve = curve(&histogram);
        assert!(curve.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1));
        let last = curve.last().unwrap();
        assert!((last.0 - 0.999).abs() < 1e-9 && last.1 >= 999, "{last:?}");
        assert!(super::curve(&Histogram::new(3).unwrap()).is_empty());
    }

    #[test]
    fn nothing_measured_is_not_zero() {
        let quantiles = Quantiles::of(&Histogram::new(3).unwrap());
        assert_eq!((quantiles.count, quantiles.p99), (0, None));
    }
}
