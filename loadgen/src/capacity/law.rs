//! How time grows with load: the universal scalability law.
//!
//! N. J. Gunther, "Guerrilla Capacity Planning" (2007), chapters 4 to 6: with N messages under way the throughput is
//! `X(N) = γN / (1 + α(N−1) + βN(N−1))`; γ is what one alone would do, α what is done one after the other
//! (contention), β what everybody has to agree on with everybody (coherency). By Little's law `N = X·R`, so that the
//! time a message takes is `R(N) = N/X(N) = (1 + α(N−1) + βN(N−1)) / γ`: linear in `1/γ`, `α/γ` and `β/γ`. That is what
//! is fitted: least squares of the relative error of R, no coefficient below zero, α at most 1.
//!
//! The same law with machines for N and `N/X` for R says how a fleet grows.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::Serialize;

/// Points with different N that a fit needs: one more than there are coefficients.
pub(crate) const POINTS_MIN: usize = 4;
/// Samples of the bootstrap.
const SAMPLES: u32 = 400;
/// Bounds of the interval that is told: nine in ten.
const QUANTILES: (f64, f64) = (0.05, 0.95);

/// One measurement: how many were under way, and how long each took (in seconds; for machines: N by throughput).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Point {
    pub(crate) n: f64,
    pub(crate) r: f64,
}

impl Point {
    /// From a throughput per second and the mean time that each took, by Little's law. `None` if one is nothing.
    pub(crate) fn little(per_second: f64, seconds: f64) -> Option<Self> {
        (per_second > 0.0 && seconds > 0.0).then_some(Self { n: per_second * seconds, r: seconds })
    }

    fn throughput(self) -> f64 {
        self.n / self.r
    }
}

/// `R(N) = base + serial·N + coherent·N(N−1)`, another writing of the law in which no coefficient is below zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Law {
    base: f64,
    serial: f64,
    coherent: f64,
}

/// A law and how well it is known.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Fit {
    /// What one alone would do per second.
    pub(crate) gamma: f64,
    /// Contention, 0 to 1.
    pub(crate) alpha: f64,
    /// Coherency.
    pub(crate) beta: f64,
    /// Nine in ten: from, to.
    pub(crate) gamma_interval: [f64; 2],
    pub(crate) alpha_interval: [f64; 2],
    pub(crate) beta_interval: [f64; 2],
    /// Root of the mean square of the relative errors of the times.
    pub(crate) residual_rms: f64,
    /// Of the throughputs; 1: the law explains all of it.
    pub(crate) r_squared: f64,
    pub(crate) points: usize,
    /// The throughput that would never be exceeded; `None` if no limit shows in the data.
    pub(crate) peak: Option<Peak>,
    #[serde(skip)]
    pub(crate) law: Law,
    #[serde(skip)]
    samples: Vec<Law>,
}

/// The most that the law allows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Peak {
    pub(crate) per_second: f64,
    /// Nine in ten: from, to. `None` at its end: no limit.
    pub(crate) low: f64,
    pub(crate) high: Option<f64>,
    /// Higher than what was measured: a guess.
    pub(crate) beyond_data: bool,
}

impl Law {
    /// The least squares of the relative error; `None` for fewer than [`POINTS_MIN`] points.
    pub(crate) fn of(points: &[Point]) -> Option<Self> {
        if points.len() < POINTS_MIN {
            return None;
        }
        let rows: Vec<[f64; 3]> = points.iter().map(|Point { n, r }| [1.0 / r, n / r, n * (n - 1.0) / r]).collect();
        let [base, serial, coherent] = least_squares(&rows)?;
        Some(Self { base, serial, coherent })
    }

    /// How long each takes with `n` under way.
    pub(crate) fn time(&self, n: f64) -> f64 {
        self.base + self.serial * n + self.coherent * n * (n - 1.0)
    }

    /// How long each takes at a throughput; `None` if there is none such.
    pub(crate) fn time_at(&self, per_second: f64) -> Option<f64> {
        let (x, c) = (per_second, self.coherent);
        // c·X·N² − (1 + cX − bX)·N + rX = 0, the smaller root.
        let middle = 1.0 + c * x - self.serial * x;
        if middle <= 0.0 {
            return None;
        }
        if c * x < 1e-12 {
            return Some(self.base / middle);
        }
        let root = middle * middle - 4.0 * c * self.base * x * x;
        (root >= 0.0).then(|| 2.0 * self.base / (middle + root.sqrt()))
    }

    /// The throughput with `n` under way.
    pub(crate) fn throughput(&self, n: f64) -> f64 {
        n / self.time(n)
    }

    /// The highest throughput there is; `None`: it grows for ever.
    pub(crate) fn peak(&self) -> Option<f64> {
        let at_best = 2.0 * (self.base * self.coherent).sqrt() + self.serial - self.coherent;
        (at_best > 0.0).then(|| 1.0 / at_best)
    }

    /// γ, α and β.
    pub(crate) fn coefficients(&self) -> [f64; 3] {
        let one = self.base + self.serial;
        [1.0 / one, self.serial / one, self.coherent / one]
    }
}

impl Fit {
    /// Fits the law; the same points give the same fit. `None`: too few different points.
    pub(crate) fn of(points: &[Point]) -> Option<Self> {
        let law = Law::of(points).filter(|_| different(points) >= POINTS_MIN)?;
        let mut rng = StdRng::seed_from_u64(0x6775_6e74);
        let samples: Vec<Law> = (0..SAMPLES)
            .filter_map(|_| {
                let drawn: Vec<Point> = points.iter().map(|_| points[rng.random_range(0..points.len())]).collect();
                // Fewer than three different points say nothing of three coefficients.
                Law::of(&drawn).filter(|_| different(&drawn) >= POINTS_MIN - 1)
            })
            .collect();
        let [gamma, alpha, beta] = law.coefficients();
        let of = |at: usize| interval(samples.iter().map(|law| law.coefficients()[at]).collect());
        let relative = points.iter().map(|point| ((law.time(point.n) - point.r) / point.r).powi(2));
        let residual_rms = (relative.sum::<f64>() / points.len() as f64).sqrt();
        let measured = points.iter().map(|point| point.throughput()).fold(0.0, f64::max);
        let peak = law.peak().map(|per_second| {
            let mut peaks: Vec<f64> = samples.iter().map(|law| law.peak().unwrap_or(f64::INFINITY)).collect();
            peaks.sort_by(f64::total_cmp);
            let [low, high] = interval(peaks);
            let high = Some(high).filter(|high| high.is_finite());
            Peak { per_second, low, high, beyond_data: per_second > measured * 1.001 }
        });
        Some(Self {
            gamma,
            alpha,
            beta,
            gamma_interval: of(0),
            alpha_interval: of(1),
            beta_interval: of(2),
            residual_rms,
            r_squared: r_squared(&law, points),
            points: points.len(),
            peak,
            law,
            samples,
        })
    }

    /// Nine in ten of what `of` makes of the laws of the bootstrap. Those that give nothing are left out.
    pub(crate) fn interval(&self, of: impl Fn(&Law) -> Option<f64>) -> Option<[f64; 2]> {
        let values: Vec<f64> = self.samples.iter().filter_map(of).collect();
        (!values.is_empty()).then(|| interval(values))
    }
}

fn different(points: &[Point]) -> usize {
    let mut ns: Vec<f64> = points.iter().map(|point| point.n).collect();
    ns.sort_by(f64::total_cmp);
    ns.dedup_by(|one, other| (*one - *other).abs() <= 1e-3 * other.abs());
    ns.len()
}

fn interval(mut values: Vec<f64>) -> [f64; 2] {
    values.sort_by(f64::total_cmp);
    let at = |quantile: f64| values[((values.len() - 1) as f64 * quantile).round() as usize];
    if values.is_empty() { [f64::NAN; 2] } else { [at(QUANTILES.0), at(QUANTILES.1)] }
}

fn r_squared(law: &Law, points: &[Point]) -> f64 {
    let mean = points.iter().map(|point| point.throughput()).sum::<f64>() / points.len() as f64;
    let off: f64 = points.iter().map(|point| (law.throughput(point.n) - point.throughput()).powi(2)).sum();
    let all: f64 = points.iter().map(|point| (point.throughput() - mean).powi(2)).sum();
    if all > 0.0 { 1.0 - off / all } else { 1.0 }
}

/// The coefficients, none below zero, that bring `rows · coefficients` nearest to 1. With three of them every choice of
/// those that are zero is tried: exact, and without a step to go astray.
fn least_squares(rows: &[[f64; 3]]) -> Option<[f64; 3]> {
    let mut best: Option<(f64, [f64; 3])> = None;
    for used in 1..8_usize {
        let columns: Vec<usize> = (0..3).filter(|column| used & (1 << column) != 0).collect();
        let Some(found) = solve(rows, &columns) else { continue };
        if found.iter().any(|coefficient| *coefficient < 0.0) {
            continue;
        }
        let off =
            |row: &[f64; 3]| row.iter().zip(found).map(|(value, coefficient)| value * coefficient).sum::<f64>() - 1.0;
        let error: f64 = rows.iter().map(|row| off(row).powi(2)).sum();
        if best.is_none_or(|(least, _)| error < least) {
            best = Some((error, found));
        }
    }
    best.map(|(_, found)| found).filter(|found| found[0] + found[1] > 0.0)
}

/// Normal equations of the chosen columns, scaled, by elimination with pivots.
fn solve(rows: &[[f64; 3]], columns: &[usize]) -> Option<[f64; 3]> {
    let count = columns.len();
    let scale: Vec<f64> =
        columns.iter().map(|column| rows.iter().map(|row| row[*column].powi(2)).sum::<f64>().sqrt()).collect();
    if scale.iter().any(|scale| *scale == 0.0 || !scale.is_finite()) {
        return None;
    }
    let value = |row: &[f64; 3], at: usize| row[columns[at]] / scale[at];
    let mut matrix = [[0.0; 4]; 3];
    for row in rows {
        for (i, line) in matrix.iter_mut().enumerate().take(count) {
            for (j, cell) in line.iter_mut().enumerate().take(count) {
                *cell += value(row, i) * value(row, j);
            }
            line[3] += value(row, i);
        }
    }
    for column in 0..count {
        let pivot = (column..count).max_by(|a, b| matrix[*a][column].abs().total_cmp(&matrix[*b][column].abs()))?;
        matrix.swap(column, pivot);
        if matrix[column][column].abs() < 1e-12 {
            return None;
        }
        for line in 0..count {
            if line != column {
                let factor = matrix[line][column] / matrix[column][column];
                let pivot = matrix[column];
                matrix[line].iter_mut().zip(pivot).for_each(|(cell, of)| *cell -= factor * of);
            }
        }
    }
    let mut found = [0.0; 3];
    for (at, column) in columns.iter().enumerate() {
        found[*column] = matrix[at][3] / matrix[at][at] / scale[at];
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gunther(gamma: f64, alpha: f64, beta: f64, n: f64) -> Point {
        let x = gamma * n / (1.0 + alpha * (n - 1.0) + beta * n * (n - 1.0));
        Point { n, r: n / x }
    }

    fn close(found: f64, truth: f64, share: f64) -> bool {
        (found - truth).abs() <= share * truth.abs()
    }

    #[test]
    fn a_single_queue_is_the_law_without_coherency() {
        // M/M/1: R = 1/(µ − λ). Its limit is µ.
        let points: Vec<Point> = (1..10)
            .map(|tenth| Point::little(f64::from(tenth) * 100.0, 1.0 / (1000.0 - f64::from(tenth) * 100.0)).unwrap())
            .collect();
        let fit = Fit::of(&points).unwrap();
        let peak = fit.peak.unwrap();
        assert!(close(peak.per_second, 1000.0, 1e-6) && peak.beyond_data, "{fit:?}");
        assert!(close(fit.law.time_at(500.0).unwrap(), 0.002, 1e-6) && fit.law.time_at(1001.0).is_none());
        assert!(fit.residual_rms < 1e-6 && fit.r_squared > 0.999_999);
    }

    #[test]
    fn too_few_points_or_the_same_again_give_no_law() {
        let points: Vec<Point> = (1..4).map(|n| gunther(100.0, 0.1, 0.0, f64::from(n))).collect();
        assert!(Fit::of(&points).is_none());
        assert!(Fit::of(&[points[0]; 9]).is_none());
        assert!(Point::little(0.0, 1.0).is_none());
    }

    #[test]
    fn what_shows_no_limit_has_none() {
        let points: Vec<Point> = (1..9).map(|n| Point::little(f64::from(n) * 100.0, 0.001).unwrap()).collect();
        assert!(Fit::of(&points).unwrap().peak.is_none_or(|peak| peak.beyond_data));
    }

    #[test]
    fn a_peak_within_the_data_is_no_guess() {
        let points: Vec<Point> =
            [1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0].map(|n| gunther(50.0, 0.05, 0.002, n)).into();
        let peak = Fit::of(&points).unwrap().peak.unwrap();
        assert!(
            !peak.beyond_data
                || close(peak.per_second, points.iter().map(|p| p.throughput()).fold(0.0, f64::max), 0.02)
        );
    }

    proptest! {
        #[test]
        fn known_parameters_come_back(gamma in 10.0f64..10_000.0, alpha in 0.0f64..0.6, beta in 0.0f64..0.01) {
            let points: Vec<Point> = [0.3, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0].map(|n| gunther(gamma, alpha, beta, n)).into();
            let fit = Fit::of(&points).unwrap();
            prop_assert!(close(fit.gamma, gamma, 1e-4), "{fit:?}");
            prop_assert!((fit.alpha - alpha).abs() < 1e-4 && (fit.beta - beta).abs() < 1e-5, "{fit:?}");
        }

        #[test]
        fn with_noise_they_come_back_within_their_interval_or_near_it(
            gamma in 100.0f64..1000.0, alpha in 0.05f64..0.5, beta in 0.0005f64..0.005, seed: u64,
        ) {
            let mut rng = StdRng::seed_from_u64(seed);
            let points: Vec<Point> = (0..30).map(|at| {
                let Point { n, r } = gunther(gamma, alpha, beta, 1.25f64.powi(at));
                Point { n, r: r * (1.0 + (rng.random::<f64>() - 0.5) * 0.06) }
            }).collect();
            let fit = Fit::of(&points).unwrap();
            prop_assert!(close(fit.gamma, gamma, 0.05), "{fit:?}");
            prop_assert!(close(fit.alpha, alpha, 0.25) && close(fit.beta, beta, 0.25), "{fit:?}");
            let truth = Law { base: (1.0 - alpha) / gamma, serial: alpha / gamma, coherent: beta / gamma }.peak().unwrap();
            let peak = fit.peak.unwrap();
            prop_assert!(close(peak.per_second, truth, 0.1), "{peak:?} {truth}");
            prop_assert!(peak.low <= peak.per_second * 1.001 && peak.high.is_none_or(|high| high >= peak.per_second * 0.999));
            prop_assert!(fit.residual_rms < 0.05);
        }

        #[test]
        fn any_points_are_survived(points in prop::collection::vec((0.0f64..1e6, 1e-9f64..1e3), 0..12)) {
            let points: Vec<Point> = points.into_iter().filter_map(|(x, r)| Point::little(x, r)).collect();
            if let Some(fit) = Fit::of(&points) {
                prop_assert!(fit.alpha >= 0.0 && fit.alpha <= 1.0 && fit.beta >= 0.0 && fit.gamma > 0.0);
                let _ = fit.law.time_at(100.0);
            }
        }
    }
}
