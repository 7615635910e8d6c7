//! The statistics of comparisons, small and by hand.
//!
//! - Several runs on each side: the ratio of medians, the exact two-sided rank-sum test of Mann and Whitney (1947) while
//!   all arrangements can be counted, else its normal approximation with ties (Lehmann, Nonparametrics, 1975), and a
//!   percentile bootstrap interval of the ratio (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13).
//! - One run on each side: the ratio of means of the seconds of the run, with an interval by the moving-block bootstrap
//!   (Künsch, The jackknife and the bootstrap for general stationary observations, 1989). Neighbouring seconds are alike,
//!   so blocks of them are drawn, not single ones. It tells how much a figure sways within a run; how much two runs
//!   differ from one another it cannot tell.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// Draws of a bootstrap: enough for the ends of a 95 % interval.
const DRAWS: usize = 4000;
/// All comparisons of the same numbers give the same intervals.
const SEED: u64 = 20_260_101;
/// Up to so many arrangements of ranks are counted one by one.
const ARRANGEMENTS_MAX: u64 = 2_000_000;

/// From where to where something is, with 95 % confidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Interval {
    pub low: f64,
    pub high: f64,
}

/// The middle one.
pub(super) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.len(), sorted.len() % 2) {
        (0, _) => None,
        (_, 1) => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// The two-sided probability that `a` and `b` differ in their ranks at least as much as they do if both are of one
/// distribution. `None` if one is empty.
pub(super) fn rank_test(a: &[f64], b: &[f64]) -> Option<f64> {
    if a.is_empty() || b.is_empty() {
        return None;
    }
    let ranks = ranks(a, b);
    let sum: f64 = ranks[..a.len()].iter().sum();
    let expected = a.len() as f64 * (ranks.len() + 1) as f64 / 2.0;
    let apart = (sum - expected).abs();
    let counted = match choose(ranks.len(), a.len()) {
        Some(all) if all <= ARRANGEMENTS_MAX => {
            let as_far = arrangements(&ranks, a.len(), 0.0, &mut |sum| (sum - expected).abs() >= apart - 1e-9);
            as_far as f64 / all as f64
        }
        _ => normal_tail(a.len(), b.len(), &ranks, apart),
    };
    Some(counted.min(1.0))
}

/// The smallest probability that the rank test can give for so many runs.
pub(super) fn least_chance(a: usize, b: usize) -> f64 {
    choose(a + b, a).map_or(0.0, |all| (2.0 / all as f64).min(1.0))
}

/// Ranks from 1, those of `a` first; equal values share the mean of theirs.
fn ranks(a: &[f64], b: &[f64]) -> Vec<f64> {
    let all: Vec<f64> = a.iter().chain(b).copied().collect();
    let rank = |value: &f64| {
        let below = all.iter().filter(|other| *other < value).count() as f64;
        let equal = all.iter().filter(|other| *other == value).count() as f64;
        below + (equal + 1.0) / 2.0
    };
    all.iter().map(rank).collect()
}

fn choose(of: usize, some: usize) -> Option<u64> {
    let some = some.min(of - some);
    (0..some as u64).try_fold(1_u64, |product, at| Some(product.checked_mul(of as u64 - at)? / (at + 1)))
}

/// How many ways to draw `some` of the ranks have a sum that is `far`.
fn arrangements(ranks: &[f64], some: usize, sum: f64, far: &mut impl FnMut(f64) -> bool) -> u64 {
    if some == 0 {
        return u64::from(far(sum));
    }
    let mut count = 0;
    for at in 0..=ranks.len() - some {
        count += arrangements(&ranks[at + 1..], some - 1, sum + ranks[at], far);
    }
    count
}

/// The tails of the normal distribution beyond so much from the middle, with ties and the correction for continuity.
fn normal_tail(a: usize, b: usize, ranks: &[f64], apart: f64) -> f64 {
    let (a, b, all) = (a as f64, b as f64, ranks.len() as f64);
    let mut sorted = ranks.to_vec();
    sorted.sort_by(f64::total_cmp);
    let ties: f64 =
        sorted.chunk_by(|one, other| one == other).map(|tie| (tie.len() as f64).powi(3) - tie.len() as f64).sum();
    let variance = a * b / 12.0 * ((all + 1.0) - ties / (all * (all - 1.0)));
    if variance <= 0.0 {
        return 1.0;
    }
    let z = (apart - 0.5).max(0.0) / variance.sqrt();
    erfc(z / std::f64::consts::SQRT_2)
}

/// 1 - erf, to 1.2e-7 (Numerical Recipes, 6.2).
fn erfc(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.5 * x.abs());
    let poly = [
        0.170_872_77,
        -0.822_152_23,
        1.488_515_87,
        -1.135_203_98,
        0.278_868_07,
        -0.186_288_06,
        0.096_784_18,
        0.374_091_96,
        1.000_023_68,
        -1.265_512_23,
    ];
    let value = t * (-x * x + poly.iter().fold(0.0, |sum, factor| sum * t + factor)).exp();
    if x >= 0.0 { value } else { 2.0 - value }
}

/// Draws the ratio again and again and tells where 95 % of it are; `None` if it is hardly ever a number.
fn bootstrap(mut ratio: impl FnMut(&mut StdRng) -> Option<f64>) -> Option<Interval> {
    let mut rng = StdRng::seed_from_u64(SEED);
    let mut drawn: Vec<f64> = (0..DRAWS).filter_map(|_| ratio(&mut rng)).filter(|ratio| ratio.is_finite()).collect();
    if drawn.len() < DRAWS * 9 / 10 {
        return None;
    }
    drawn.sort_by(f64::total_cmp);
    let at = |share: f64| drawn[((drawn.len() - 1) as f64 * share).round() as usize];
    Some(Interval { low: at(0.025), high: at(0.975) })
}

/// Where the ratio of the medians of several runs is; `None` for fewer than two on a side.
pub(super) fn runs_interval(a: &[f64], b: &[f64]) -> Option<Interval> {
    if a.len() < 2 || b.len() < 2 {
        return None;
    }
    let draw = |of: &[f64], rng: &mut StdRng| {
        let drawn: Vec<f64> = (0..of.len()).map(|_| of[rng.random_range(0..of.len())]).collect();
        median(&drawn)
    };
    bootstrap(|rng| Some(draw(b, rng)? / draw(a, rng)?))
}

/// Where the ratio of the means of two series is; `None` for fewer than eight seconds on a side.
pub(super) fn series_interval(a: &[f64], b: &[f64]) -> Option<Interval> {
    const SECONDS_MIN: usize = 8;
    if a.len() < SECONDS_MIN || b.len() < SECONDS_MIN {
        return None;
    }
    bootstrap(|rng| Some(block_mean(b, rng) / block_mean(a, rng)))
}

/// The mean of a series made of blocks of this one, each as long as the cube root of it says, begun anywhere.
fn block_mean(series: &[f64], rng: &mut StdRng) -> f64 {
    let length = ((series.len() as f64).cbrt() * 1.5).round().max(2.0) as usize;
    let (mut sum, mut count) = (0.0, 0);
    while count < series.len() {
        let begin = rng.random_range(0..=series.len() - length);
        let take = length.min(series.len() - count);
        sum += series[begin..begin + take].iter().sum::<f64>();
        count += take;
    }
    sum / count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rank_test_gives_the_probabilities_of_the_tables() {
        // All of one side below all of the other: 2 of all arrangements are as far apart.
        for (a, b, p) in [
            (&[1.0, 2.0, 3.0][..], &[4.0, 5.0, 6.0][..], 2.0 / 20.0),
            (&[1.0, 2.0, 3.0, 4.0], &[5.0, 6.0, 7.0, 8.0], 2.0 / 70.0),
            (&[1.0, 2.0, 3.0, 4.0, 5.0], &[6.0, 7.0, 8.0, 9.0, 10.0], 2.0 / 252.0),
            // U = 4 of 4 and 4: 12 of 70 arrangements on each side, 0.171 in the tables.
            (&[1.0, 2.0, 5.0, 6.0], &[3.0, 4.0, 7.0, 8.0], 24.0 / 70.0),
            (&[1.0, 1.0], &[1.0, 1.0], 1.0),
        ] {
            let found = rank_test(a, b).unwrap();
            assert!((found - p).abs() < 1e-9, "{a:?} {b:?}: {found} is not {p}");
        }
        assert_eq!(rank_test(&[], &[1.0]), None);
    }

    #[test]
    fn many_runs_are_tested_by_the_normal_distribution() {
        let a: Vec<f64> = (0..30).map(f64::from).collect();
        let b: Vec<f64> = (0..30).map(|at| f64::from(at) + 9.0).collect();
        // U = 220.5, z = 3.3858 with ties and the correction for continuity.
        let p = rank_test(&a, &b).unwrap();
        assert!((p - 0.000_707_59).abs() < 1e-7, "{p}");
        assert!(rank_test(&a, &a).unwrap() > 0.9);
        assert!((erfc(1.0) - 0.157_299_2).abs() < 1e-6 && (erfc(-1.0) - 1.842_700_8).abs() < 1e-6);
    }

    #[test]
    fn an_interval_holds_the_ratio_and_narrows_with_what_is_known() {
        let side = |middle: f64, spread: f64| -> Vec<f64> {
            (0..12).map(|at| middle + spread * (f64::from(at) - 5.5)).collect()
        };
        let narrow = runs_interval(&side(100.0, 0.2), &side(120.0, 0.2)).unwrap();
        let wide = runs_interval(&side(100.0, 4.0), &side(120.0, 4.0)).unwrap();
        assert!(narrow.low <= 1.2 && narrow.high >= 1.2 && narrow.low > 1.15, "{narrow:?}");
        assert!(wide.high - wide.low > 3.0 * (narrow.high - narrow.low), "{wide:?} {narrow:?}");
        assert_eq!(runs_interval(&[1.0], &[2.0, 3.0]), None);
    }

    #[test]
    fn seconds_that_are_alike_prove_less_than_seconds_that_are_not() {
        // The same values, once in long waves and once alternating.
        let waves: Vec<f64> = (0..64).map(|at| if (at / 16) % 2 == 0 { 80.0 } else { 120.0 }).collect();
        let alternating: Vec<f64> = (0..64).map(|at| if at % 2 == 0 { 80.0 } else { 120.0 }).collect();
        let of = |series: &[f64]| series_interval(&vec![100.0; 64], series).unwrap();
        let (waves, alternating) = (of(&waves), of(&alternating));
        assert!(waves.high - waves.low > 2.0 * (alternating.high - alternating.low), "{waves:?} {alternating:?}");
        assert!(waves.low < 1.0 && waves.high > 1.0);
        assert_eq!(series_interval(&[1.0; 7], &[1.0; 30]), None);
    }

    #[test]
    fn a_median_is_the_middle_of_what_there_is() {
        assert_eq!(
            (median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0, 2.0, 3.0]), median(&[])),
            (Some(2.0), Some(2.5), None)
        );
    }
}
