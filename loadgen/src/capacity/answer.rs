//! From the runs of a search to its answer.

use serde::{Deserialize, Serialize};

use super::law::{Fit, Law, POINTS_MIN, Point};
use super::search::{Bound, Found, Judged, Settings};
use super::step::{Step, Vary};
use crate::host::Environment;
use crate::report::draw::number;
use crate::verdict::Verdict;

/// The version of the answer's form. It changes when a field changes its meaning or goes.
pub(crate) const FORMAT: &str = "roost-load-capacity/1";
/// Numbers of machines that are told.
const MACHINES: [u32; 6] = [1, 2, 4, 8, 16, 32];
/// Points of the curve.
const CURVE: u32 = 48;

/// `capacity.json`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Capacity {
    pub(crate) format: &'static str,
    pub(crate) answer: Answer,
    pub(crate) vary: Vary,
    /// The objectives, as they were written.
    pub(crate) slo: Vec<String>,
    /// What was run at each step.
    pub(crate) scenario: String,
    pub(crate) search: Settings,
    /// Nodes of the server that was measured.
    pub(crate) nodes: u32,
    pub(crate) steps: Vec<Step>,
    /// How time grows with load; `None` for the reason that follows.
    pub(crate) scalability: Option<Scalability>,
    pub(crate) scalability_missing: Option<String>,
    /// How CPU time and memory grow with load: straight lines, by least squares.
    pub(crate) cpu_cores: Option<Line>,
    pub(crate) server_bytes: Option<Line>,
    pub(crate) machines: Vec<Machines>,
    /// How a fleet grows, if several sizes were measured.
    pub(crate) fleet: Option<Fit>,
    pub(crate) environment: Environment,
    pub(crate) exit_code: u8,
}

/// The answer itself.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Answer {
    /// For people.
    pub(crate) sentence: String,
    /// The highest load that holds; `None`: none did.
    pub(crate) load: Option<f64>,
    /// The lowest load that was too much; `None`: none was.
    pub(crate) above: Option<f64>,
    pub(crate) unit: &'static str,
    pub(crate) bounded_by: Bound,
    pub(crate) runs: u32,
    pub(crate) held: u32,
    pub(crate) confirmed: bool,
    /// The objective that is not met first; `None`: all were, as far as it went.
    pub(crate) breaks_first: Option<String>,
}

/// The universal scalability law, fitted to the runs.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Scalability {
    pub(crate) law: &'static str,
    /// What is counted per second: `deliveries` or `messages`.
    pub(crate) of: &'static str,
    #[serde(flatten)]
    pub(crate) fit: Fit,
    /// The highest throughput that was measured: what is said of more is a guess.
    pub(crate) data_ends_at: f64,
    /// Throughput per second and mean time in microseconds, as measured.
    pub(crate) measured: Vec<(f64, f64)>,
    /// Throughput, time, and nine in ten of the bootstrap's: from, to.
    pub(crate) curve: Vec<[f64; 4]>,
}

impl Scalability {
    /// Where throughput would end by the law, and whether that is known.
    pub(crate) fn limit(&self) -> String {
        let Some(peak) = self.fit.peak else {
            return "Time per message does not grow with load as far as it was measured: no limit shows.".into();
        };
        let data = number(self.data_ends_at);
        let doubt = if peak.beyond_data {
            format!("; that is a guess, the data end at {data}")
        } else if peak.per_second < self.data_ends_at {
            format!("; but {data} were measured: near its end the law does not hold here")
        } else {
            String::new()
        };
        let (per_second, low) = (number(peak.per_second), number(peak.low));
        let high = peak.high.map_or("no limit".into(), number);
        let of = self.of;
        format!(
            "By the law of scalability throughput ends at {per_second} {of} per second (nine in ten: {low} to {high}){doubt}."
        )
    }
}

/// `at_nothing + per_unit · load`.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Line {
    pub(crate) at_nothing: f64,
    pub(crate) per_unit: f64,
    pub(crate) residual_rms: f64,
    pub(crate) points: usize,
}

/// What so many machines would carry.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machines {
    pub(crate) machines: u32,
    pub(crate) load: f64,
    /// From, to: nine in ten, or what held and what was too much. `None`: not known.
    pub(crate) low: Option<f64>,
    pub(crate) high: Option<f64>,
    /// It was measured, not reckoned.
    pub(crate) measured: bool,
    pub(crate) note: String,
}

/// An answer of another size of fleet, as far as it is needed here.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Beside {
    pub(crate) nodes: u32,
    pub(crate) load: f64,
}

/// What an answer is made of.
pub(crate) struct Material {
    pub(crate) found: Found,
    pub(crate) vary: Vary,
    pub(crate) slo: Vec<String>,
    pub(crate) scenario: String,
    pub(crate) search: Settings,
    pub(crate) nodes: u32,
    pub(crate) beside: Vec<Beside>,
    pub(crate) steps: Vec<Step>,
    pub(crate) environment: Environment,
}

/// Puts the answer together.
pub(crate) fn capacity(material: Material) -> Capacity {
    let Material { found, vary, slo, scenario, search, nodes, beside, steps, environment } = material;
    let answer = answer(found, vary, &slo, &steps);
    let (scalability, scalability_missing) = match scalability(&steps) {
        Ok(scalability) => (Some(scalability), None),
        Err(why) => (None, Some(why)),
    };
    let (machines, fleet) = machines(&answer, nodes, &beside);
    Capacity {
        format: FORMAT,
        exit_code: verdict_of(found.bound).exit_code(),
        answer,
        vary,
        slo,
        scenario,
        search,
        nodes,
        cpu_cores: line(&steps, |step| step.server_cpu_cores),
        server_bytes: line(&steps, |step| step.server_bytes.map(|bytes| bytes as f64)),
        steps,
        scalability,
        scalability_missing,
        machines,
        fleet,
        environment,
    }
}

/// What a search comes to, as a verdict of a run.
pub(crate) const fn verdict_of(bound: Bound) -> Verdict {
    match bound {
        Bound::Objective | Bound::Asked | Bound::Runs => Verdict::Pass,
        Bound::Generator => Verdict::Generator,
        Bound::Nothing => Verdict::Threshold,
        Bound::Stopped => Verdict::Interrupted,
    }
}

fn answer(found: Found, vary: Vary, slo: &[String], steps: &[Step]) -> Answer {
    let Found { load, above, bound, runs, held, confirmed } = found;
    let unit = vary.unit();
    let failed = |step: &&Step| step.outcome == Judged::Failed && above.is_none_or(|above| step.load <= above * 1.0001);
    let breaks_first = steps.iter().rfind(failed).and_then(|step| step.broke.clone());
    let slo = slo.join(" and ");
    let times = format!("{held} of {runs} runs");
    let limit = above.map(number);
    let sentence = match (load.map(number), bound, &limit) {
        (Some(load), Bound::Objective, Some(limit)) => {
            let broke = breaks_first.as_deref().unwrap_or("an objective");
            format!(
                "It carries {load} {unit} with {slo} ({times}). At {limit}, {broke} is the first that no longer holds."
            )
        }
        (Some(load), Bound::Generator, Some(limit)) => format!(
            "It carries at least {load} {unit} with {slo} ({times}). At {limit} this generator was the limit, not the server: \
             nothing is known of more."
        ),
        (Some(load), Bound::Asked, _) => {
            format!("It carries at least {load} {unit} with {slo} ({times}). More was not tried.")
        }
        (Some(load), ..) => {
            format!("It carries at least {load} {unit} with {slo}, as far as the search went ({times}: not confirmed).")
        }
        (None, _, Some(limit)) => format!("It does not carry even {limit} {unit} with {slo}."),
        (None, _, None) => "Nothing was measured.".into(),
    };
    Answer { sentence, load, above, unit, bounded_by: bound, runs, held, confirmed, breaks_first }
}

/// Fits the law to every run that says something of the server.
fn scalability(steps: &[Step]) -> Result<Scalability, String> {
    let delivered = steps.iter().any(|step| step.deliveries_per_second.is_some() && step.delivery_us.count > 0);
    let measured = steps.iter().filter(|step| step.outcome != Judged::Generator).filter_map(|step| {
        let (per_second, times) = match step.deliveries_per_second {
            Some(per_second) if delivered => (per_second, step.delivery_us),
            _ => (step.sends_per_second?, step.ack_us),
        };
        let point = Point::little(per_second, times.mean? / 1e6)?;
        Some((per_second, times.mean?, point))
    });
    let measured: Vec<(f64, f64, Point)> = measured.collect();
    if measured.is_empty() {
        return Err("these runs have no throughput: there is nothing that could grow by the law".into());
    }
    let points: Vec<Point> = measured.iter().map(|(.., point)| *point).collect();
    let fit = Fit::of(&points).ok_or_else(|| {
        format!("{POINTS_MIN} runs at different loads are needed for three coefficients and an error")
    })?;
    let data_ends_at = measured.iter().map(|(per_second, ..)| *per_second).fold(0.0, f64::max);
    // To the end of the data and a little on, as far as the law goes.
    let end = fit.law.peak().map_or(f64::INFINITY, |peak| peak * 0.98).min(data_ends_at * 1.15);
    let at = |place: u32| end * f64::from(place) / f64::from(CURVE);
    let curve = (1..=CURVE).map(at).filter_map(|per_second| {
        let us = |law: &Law| law.time_at(per_second).map(|seconds| seconds * 1e6);
        let [low, high] = fit.interval(us)?;
        Some([per_second, us(&fit.law)?, low, high])
    });
    Ok(Scalability {
        law: "universal scalability law (N. J. Gunther): X(N) = γN / (1 + α(N−1) + βN(N−1)), N = X·R (Little)",
        of: if delivered { "deliveries" } else { "messages" },
        data_ends_at,
        measured: measured.iter().map(|(per_second, us, _)| (*per_second, *us)).collect(),
        curve: curve.collect(),
        fit,
    })
}

/// A straight line through what steps measured at their loads.
fn line(steps: &[Step], of: impl Fn(&Step) -> Option<f64>) -> Option<Line> {
    let valid = steps.iter().filter(|step| step.outcome != Judged::Generator);
    let points: Vec<(f64, f64)> = valid.filter_map(|step| Some((step.load, of(step)?))).collect();
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    if points.len() < 3 || spread == 0.0 {
        return None;
    }
    let per_unit = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum::<f64>() / spread;
    let at_nothing = y - per_unit * x;
    let off: f64 = points.iter().map(|point| (at_nothing + per_unit * point.0 - point.1).powi(2)).sum();
    Some(Line { at_nothing, per_unit, residual_rms: (off / count).sqrt(), points: points.len() })
}

/// What more machines would carry, and how that is known.
fn machines(answer: &Answer, nodes: u32, beside: &[Beside]) -> (Vec<Machines>, Option<Fit>) {
    let Some(load) = answer.load else { return (Vec::new(), None) };
    let mut sizes: Vec<(u32, f64)> =
        beside.iter().map(|beside| (beside.nodes, beside.load)).chain([(nodes, load)]).collect();
    sizes.sort_by_key(|(nodes, _)| *nodes);
    let points = sizes.iter().filter(|(_, load)| *load > 0.0);
    let points: Vec<Point> =
        points.map(|(nodes, load)| Point { n: f64::from(*nodes), r: f64::from(*nodes) / load }).collect();
    let fleet = Fit::of(&points);
    let largest = sizes.iter().map(|(nodes, _)| *nodes).max().unwrap_or(nodes);
    let of = |count: u32| {
        let measured = sizes.iter().rfind(|(nodes, _)| *nodes == count).map(|(_, load)| *load);
        match (measured, &fleet) {
            (Some(load), _) => Machines {
                machines: count,
                load,
                low: Some(load),
                high: answer.above.filter(|_| count == nodes),
                measured: true,
                note: "measured".into(),
            },
            (None, Some(fit)) => {
                let at = |law: &Law| Some(law.throughput(f64::from(count)));
                let interval = fit.interval(at);
                let note = if count > largest {
                    format!("by the law; no more than {largest} machines were measured")
                } else {
                    "by the law".into()
                };
                Machines {
                    machines: count,
                    load: fit.law.throughput(f64::from(count)),
                    low: interval.map(|[low, _]| low),
                    high: interval.map(|[_, high]| high),
                    measured: false,
                    note,
                }
            }
            (None, None) => Machines {
                machines: count,
                load: load / f64::from(nodes) * f64::from(count),
                low: None,
                high: None,
                measured: false,
                note: "at most: what machines cost one another was not measured".into(),
            },
        }
    };
    let mut counts: Vec<u32> = MACHINES.into_iter().chain(sizes.iter().map(|(nodes, _)| *nodes)).collect();
    counts.sort_unstable();
    counts.dedup();
    (counts.into_iter().map(of).collect(), fleet)
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::super::search::Purpose;
    use super::*;

    /// A server that is a single queue of `limit` messages per second, with 1 ms each when nothing else is there.
    fn step(number: u32, load: f64, limit: f64, outcome: Judged) -> Step {
        let us = 1e6 / (limit - load);
        let report = json!({
            "verdict": "pass", "sends": { "per_second": load }, "deliveries": { "per_second": load },
            "delivery_us": { "count": 1000, "min": 1, "mean": us, "p50": us as u64, "p90": us as u64, "p99": (us * 4.0) as u64,
                "p999": (us * 6.0) as u64, "max": (us * 9.0) as u64 },
            "server": { "cpu_cores": 0.1 + load / 1000.0, "anonymous_bytes": { "after_load": 10_000_000.0 + load * 1000.0 } },
            "sessions": { "held": 10 },
        });
        let mut step = Step::of(&report, (number, load, Purpose::Climb), &[], format!("steps/{number:02}/report.html"));
        (step.outcome, step.broke) = (outcome, (outcome == Judged::Failed).then(|| "delivery.p99<250ms".into()));
        step
    }

    /// An answer of a search that met its objective at 800 of 1000 messages per second.
    pub(in super::super) fn example(bound: Bound) -> Capacity {
        let last = if bound == Bound::Generator { Judged::Generator } else { Judged::Failed };
        let loads = [100.0, 200.0, 400.0, 600.0, 800.0];
        let mut steps: Vec<Step> =
            loads.iter().enumerate().map(|(at, load)| step(at as u32 + 1, *load, 1000.0, Judged::Held)).collect();
        steps.push(step(6, 950.0, 1000.0, last));
        capacity(Material {
            found: Found { load: Some(800.0), above: Some(950.0), bound, runs: 3, held: 3, confirmed: true },
            vary: Vary::Rate,
            slo: vec!["delivery.p99<250ms".into()],
            scenario: "quick --clients 500".into(),
            search: Settings { from: 100.0, to: None, growth: 2.0, precision: 0.1, confirmations: 3, runs_max: 40 },
            nodes: 1,
            beside: Vec::new(),
            steps,
            environment: Environment::look(None),
        })
    }

    #[test]
    fn the_answer_says_what_holds_and_what_breaks_first() {
        let capacity = example(Bound::Objective);
        let answer = &capacity.answer;
        assert_eq!(
            answer.sentence,
            "It carries 800 messages per second with delivery.p99<250ms (3 of 3 runs). At 950, delivery.p99<250ms is the \
             first that no longer holds."
        );
        assert_eq!((answer.breaks_first.as_deref(), capacity.exit_code), (Some("delivery.p99<250ms"), 0));
    }

    #[test]
    fn the_law_is_found_in_the_steps_and_its_limit_called_a_guess() {
        let scalability = example(Bound::Objective).scalability.unwrap();
        let peak = scalability.fit.peak.unwrap();
        assert!((peak.per_second - 1000.0).abs() < 1.0 && peak.beyond_data, "{peak:?}");
        assert_eq!((scalability.data_ends_at, scalability.measured.len()), (950.0, 6));
        assert!(scalability.curve.windows(2).all(|pair| pair[0][0] < pair[1][0] && pair[0][1] <= pair[1][1]));
        assert!(scalability.curve.iter().all(|[x, ..]| *x <= 1000.0));
    }

    #[test]
    fn a_limit_below_what_was_measured_is_no_limit() {
        let mut scalability = example(Bound::Objective).scalability.unwrap();
        assert!(scalability.limit().contains("a guess, the data end at 950"), "{}", scalability.limit());
        let peak = scalability.fit.peak.as_mut().unwrap();
        (peak.per_second, peak.beyond_data) = (940.0, false);
        assert!(scalability.limit().contains("but 950 were measured"), "{}", scalability.limit());
        scalability.fit.peak.as_mut().unwrap().per_second = 950.0;
        assert!(scalability.limit().ends_with(")."), "{}", scalability.limit());
    }

    #[test]
    fn a_run_of_which_the_generator_was_the_limit_is_not_in_the_law() {
        let capacity = example(Bound::Generator);
        assert_eq!(capacity.scalability.unwrap().data_ends_at, 800.0);
        assert!(
            capacity.answer.sentence.contains("at least 800")
                && capacity.answer.sentence.contains("nothing is known of more")
        );
        assert_eq!(capacity.exit_code, 5);
    }

    #[test]
    fn cost_by_load_is_a_line() {
        let capacity = example(Bound::Objective);
        let (cpu, bytes) = (capacity.cpu_cores.unwrap(), capacity.server_bytes.unwrap());
        assert!((cpu.per_unit - 0.001).abs() < 1e-9 && (cpu.at_nothing - 0.1).abs() < 1e-9 && cpu.residual_rms < 1e-9);
        assert!((bytes.per_unit - 1000.0).abs() < 1e-6);
    }

    #[test]
    fn one_machine_says_no_more_of_many_than_a_ceiling() {
        let capacity = example(Bound::Objective);
        let of = |count| capacity.machines.iter().find(|machines| machines.machines == count).unwrap();
        assert!(of(1).measured && of(1).load == 800.0);
        assert!(!of(8).measured && of(8).load == 6400.0 && of(8).note.starts_with("at most") && of(8).high.is_none());
    }

    #[test]
    fn a_fleet_of_several_sizes_follows_its_own_law() {
        let answer = example(Bound::Objective).answer;
        let x = |n: f64| 800.0 * n / (1.0 + 0.1 * (n - 1.0) + 0.01 * n * (n - 1.0));
        let beside = [2, 3, 4, 6].map(|nodes| Beside { nodes, load: x(f64::from(nodes)) });
        let (machines, fleet) = machines(&answer, 1, &beside);
        let fleet = fleet.unwrap();
        assert!((fleet.alpha - 0.1).abs() < 1e-6 && (fleet.beta - 0.01).abs() < 1e-6);
        let of = |count| machines.iter().find(|machines| machines.machines == count).unwrap();
        assert!((of(8).load - x(8.0)).abs() < 1e-3 && of(8).note.contains("no more than 6"), "{:?}", of(8));
        assert!(of(6).measured);
    }

    #[test]
    fn too_few_runs_give_no_law_and_a_reason() {
        let steps = [step(1, 100.0, 1000.0, Judged::Held)];
        assert!(scalability(&steps).unwrap_err().contains("4 runs"));
        assert!(scalability(&[]).is_err() && line(&steps, |_| Some(1.0)).is_none());
    }
}
