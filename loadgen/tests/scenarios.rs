//! Scenarios as data: the real binary, ready ones and some of our own, against the real server and against others.

mod common;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use common::fake::{Lie, start};
use common::{Run, run};
use serde_json::Value;

fn number(report: &Value, pointer: &str) -> u64 {
    report.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("{pointer} in {report:#}"))
}

/// How fast this machine is today is not what these tests are about: 5 is a machine too busy for numbers, 99 without a fault
/// in `facts` a latency beyond its threshold.
fn well<'a>(run: &'a Run, facts: &[&str]) -> &'a Value {
    assert!([0, 5, 99].contains(&run.code), "{}", run.output);
    let report = run.report();
    for name in facts {
        assert_eq!(number(report, name), 0, "{name} in {report:#}");
    }
    for held in report["thresholds"].as_array().unwrap() {
        let name = held["threshold"].as_str().unwrap();
        assert!(held["well"] == true || name.contains("p99") || run.code == 5, "{name}: {}", run.output);
    }
    report
}

const NOTHING_WRONG: &[&str] = &["/lost", "/duplicated", "/reordered", "/garbled", "/unverified", "/sessions/failed"];

/// A scenario of our own, in a file.
fn file(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// Runs a scenario by its name or file.
fn run_ready(name: &str, more: &[&str]) -> Run {
    run(&[&["run", name, "--plain"], more].concat())
}

#[test]
fn a_day_of_a_million_users_in_small_loses_nothing_and_everybody_was_awake_and_asleep() {
    let run = run_ready("chat-day", &["--scale", "0.002", "--for", "11s"]);
    let report = well(&run, NOTHING_WRONG);
    let phases: Vec<&str> =
        report["phases"].as_array().unwrap().iter().filter_map(|mark| mark["name"].as_str()).collect();
    let day = ["morning", "forenoon", "noon", "way-home", "evening", "storm", "night"];
    let of_day: Vec<_> = phases.iter().copied().filter(|name| day.contains(name)).collect();
    assert_eq!(of_day, day, "{phases:?}");
    // Everybody entered, left before the morning, came and went: 200 sessions.
    let (left, returned) = (number(report, "/sessions/left"), number(report, "/sessions/returned"));
    assert!(left > 200 && returned > 200 && left >= returned, "{left} left, {returned} returned");
    assert!(number(report, "/caught_up") > 0, "who slept caught up: {report:#}");
    assert_eq!(number(report, "/deliveries/missing"), 0, "as soon as it was back: {report:#}");
    let (pushed, expected) = (number(report, "/deliveries/pushed"), number(report, "/deliveries/expected"));
    // A message whose answer was cut off by the storm may be there, and is not expected.
    assert!(pushed + number(report, "/caught_up") >= expected && expected > 0, "{pushed} of {expected}");
    assert!(number(report, "/logs/entries_read") >= number(report, "/sends/acknowledged"), "{report:#}");
    let sdk = &report["sdk"];
    assert_eq!((sdk["clients"].as_u64(), sdk["entered"].as_u64()), (Some(1), Some(1)), "{sdk:#}");
    for name in ["/sdk/missing", "/sdk/duplicated", "/sdk/reordered", "/sdk/garbled"] {
        assert_eq!(number(report, name), 0, "{sdk:#}");
    }
    assert_eq!(report["digest"].as_str().map(str::len), Some(64));
}

#[test]
fn the_same_seed_means_the_same_load_whatever_the_number_of_threads_and_another_seed_another() {
    let digest = |more: &[&str]| {
        let small = ["--clients", "40", "--for", "1s"];
        let run = run_ready("seed-parity", &[&small[..], more, &["--set", "twice=false"]].concat());
        well(&run, NOTHING_WRONG)["digest"].as_str().unwrap().to_owned()
    };
    let one = digest(&["--threads", "1"]);
    assert_eq!(one, digest(&["--threads", "3"]));
    assert_ne!(one, digest(&["--seed", "8"]));
}

#[test]
fn seed_parity_runs_twice_and_says_so() {
    let out = tempfile::tempdir().unwrap();
    let args = ["run", "seed-parity", "--clients", "30", "--for", "1s", "--plain"];
    let run = common::finished(common::command(&args, out.path()).output().unwrap(), out.path());
    assert!([0, 5].contains(&run.code), "{}", run.output);
    assert!(run.output.contains("Two runs of this seed meant to do the same"), "{}", run.output);
    let first = std::fs::read_to_string(out.path().join("first/report.json")).unwrap();
    let first: Value = serde_json::from_str(&first).unwrap();
    assert_eq!(first["digest"], run.report()["digest"]);
}

#[test]
fn people_go_on_through_a_storm_and_a_deploy_and_nothing_acknowledged_is_lost() {
    let run = run_ready("reconnect", &["--clients", "60", "--for", "12s", "--set", "sdk_share=0.05"]);
    let report = well(&run, NOTHING_WRONG);
    // Everybody left for the deploy, half of them for the storm.
    assert!(number(report, "/sessions/left") + number(report, "/sessions/dropped") >= 80, "{report:#}");
    assert_eq!((number(report, "/sessions/held"), number(report, "/sdk/missing")), (60, 0), "{report:#}");
    assert_eq!(number(report, "/sdk/acknowledged"), number(report, "/sdk/sent"), "an outbox waits: {report:#}");
    assert!(report["partial"].is_null());
}

#[cfg(target_os = "linux")]
#[test]
fn populations_come_by_their_own_ways_and_write_to_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let population = |name: &str, more: &str| {
        format!(
            "[[population]]\nname = \"{name}\"\nusers = 20\nbehaviour = \"talking\"\ntransport = \"{name}\"\n{more}"
        )
    };
    let text = population("ws", "devices = 2\n")
        + &population("wss", "")
        + &population("quic", "network = \"far\"\n")
        + "[network.far]\ndelay = \"5ms\"\nloss = 0.01\n\
           [behaviour.talking]\nthink = \"500ms\"\n[graph]\npartners = 3\ngroups = 1\ngroup_max = 10\n\
           channels = 1\nsubscribers = 0.5\n\
           [[phase]]\nname = \"there\"\nfor = \"1s\"\n\
           [[phase]]\nname = \"moving\"\nkind = \"network\"\nfor = \"2s\"\nshare = 1\n";
    let run = run_ready(&file(folder.path(), "mixed.toml", &text), &[]);
    let report = well(&run, NOTHING_WRONG);
    assert_eq!((number(report, "/sessions/wanted"), number(report, "/sessions/migrated")), (80, 20), "{report:#}");
    // Those by TCP were cut, and came anew.
    assert_eq!((number(report, "/sessions/left"), number(report, "/sessions/returned")), (60, 60));
    assert!(number(report, "/sends/acknowledged") > 50, "{report:#}");
}

#[test]
fn agents_and_bots_answer_and_answers_are_not_answered() {
    let folder = tempfile::tempdir().unwrap();
    let text = "\
        [[population]]\nname = \"people\"\nusers = 20\nbehaviour = \"asks\"\n\
        [[population]]\nname = \"bots\"\nusers = 20\nbehaviour = \"bot\"\n\
        [behaviour.asks]\nthink = \"500ms\"\n[behaviour.bot]\nanswers = 1\nafter = \"20ms\"\n\
        [graph]\npartners = 4\ngroups = 1\ngroup_min = 4\ngroup_max = 4\n[[phase]]\nfor = \"3s\"\n";
    let run = run_ready(&file(folder.path(), "bots.toml", text), &[]);
    let report = well(&run, NOTHING_WRONG);
    let (intended, answers) = (number(report, "/sends/intended"), number(report, "/sends/answers"));
    // Half of the partners are bots: some 120 messages, each answered by every bot that reads it, three at most.
    let asked = intended - answers;
    assert!(answers > 15 && answers <= 3 * asked, "{answers} answers to {asked}");
}

#[test]
fn closed_arrivals_wait_for_their_acknowledgement_and_think() {
    let folder = tempfile::tempdir().unwrap();
    let text = "arrivals = \"closed\"\n[[population]]\nusers = 10\nbehaviour = \"waits\"\n\
        [behaviour.waits]\nthink = \"100ms\"\n[[phase]]\nfor = \"2s\"\n";
    let run = run_ready(&file(folder.path(), "closed.toml", text), &[]);
    let report = well(&run, NOTHING_WRONG);
    // At most one each 100 ms.
    let sent = number(report, "/sends/acknowledged");
    assert!((20..=200).contains(&sent), "{sent}");
    assert!(report["generator"]["late_p99_us"].is_null());
}

#[test]
fn a_ready_scenario_finds_what_a_server_that_lies_loses_with_conversation_and_seq() {
    let target = format!("http://{}", start(Lie::Lose));
    let run =
        run_ready("quick", &["--target", &target, "--clients", "20", "--rate", "100", "--for", "1s", "--grace", "1s"]);
    assert_eq!(run.code, 4, "{}", run.output);
    let report = run.report();
    assert!(number(report, "/lost") > 0, "{report:#}");
    let loss = &report["losses"][0];
    assert!(loss["conv"].as_str().is_some_and(|conv| !conv.is_empty()) && loss["seq"].as_u64() > Some(0), "{loss:#}");
}

#[cfg(target_os = "linux")]
#[test]
fn lean_scenarios_run_with_the_flags_of_all_others() {
    let small = ["--clients", "200", "--for", "1s"];
    let Some(run) = common::mass(&[&["run", "broadcast", "--plain", "--rate", "20"][..], &small].concat()) else {
        return;
    };
    let report = well(&run, &["/sessions/failed", "/sessions/lost", "/deliveries/missing"]);
    assert_eq!((number(report, "/sessions/held"), number(report, "/deliveries/pushed")), (200, 4000), "{report:#}");
    let run = run_ready("echo", &["--clients", "20", "--for", "1s"]);
    let report = well(&run, &["/sessions/failed", "/echo/unanswered"]);
    assert!(number(report, "/echo/echoed") > 20, "{report:#}");
}

#[test]
fn what_a_target_cannot_do_is_refused_by_its_name_before_the_run() {
    for (args, part) in [
        (&["run", "quick", "--target", "nats:ws://127.0.0.1:1/"][..], "nats cannot do this: direct conversations"),
        (&["run", "chat-day", "--target", "mqtt:ws://127.0.0.1:1/"], "behaviour.awake"),
        (&["run", "echo", "--target", "centrifugo:ws://127.0.0.1:1/"], "centrifugo cannot do this: send back"),
        (&["run", "echo", "--target", "http://127.0.0.1:1/"], "roost cannot do this: send back"),
        (&["run", "broadcast", "--target", "kafka:ws://127.0.0.1:1/"], "kafka"),
        (&["quick", "--target", "nats:ws://127.0.0.1:1/"], "nats cannot do this"),
        (&["run", "storm", "--target", "nats:ws://127.0.0.1:1/", "--token-key", "key"], "--token-key"),
    ] {
        let run = run(args);
        assert_eq!(run.code, 2, "{args:?}: {}", run.output);
        assert!(run.output.contains(part), "{args:?}: {}", run.output);
        assert!(run.report.is_none());
    }
}

#[test]
fn what_a_scenario_or_a_flag_gets_wrong_is_2_and_nothing_is_started() {
    let folder = tempfile::tempdir().unwrap();
    let faulty =
        file(folder.path(), "faulty.toml", "clints = \"full\"\n[[population]]\nusers = 5\n[[phase]]\nfor = 3\n");
    for (args, part) in [
        (&["run", &faulty][..], "line 1: clints"),
        (&["run", &faulty], "line 5: phase.1.for"),
        (&["check", &faulty], "did you mean `clients`"),
        (&["run", "no-such"], "there are quick, hold"),
        (&["run", "stormm"], "did you mean `storm`"),
        (&["run", "quick", "--threshold", "nothing.p99<3"], "nothing.p99"),
        (&["run", "quick", "--set", "phase.x.for=3s"], "no phase `x`"),
        (&["run", "quick", "--scale", "0"], "--scale"),
        (&["run", "hold", "--rate", "5"], "--rate"),
        (&["run", "chat-day", "--scale", "0.9"], "ulimit -n"),
        (&["run", "hold", "--clients", "4000000", "--set", "population.everybody.transport=quic"], "GiB are free"),
        (&["run", "reconnect", "--target", "http://127.0.0.1:1", "--token-key", "k"], "--admin"),
        (&["run", "reconnect", "--target", "http://127.0.0.1:1", "--admin", "http://127.0.0.1:1"], "--token-key"),
        (&["scenarios", "--show", "chat"], "chat-day"),
    ] {
        let out = folder.path().join("out");
        let run = match args[0] {
            "check" | "scenarios" => {
                let output = std::process::Command::new(env!("CARGO_BIN_EXE_roost-load")).args(args).output().unwrap();
                common::finished(output, &out)
            }
            _ => run(args),
        };
        assert_eq!(run.code, 2, "{args:?}: {}", run.output);
        assert!(run.output.contains(part), "{args:?}: {}", run.output);
    }
}

#[test]
fn ready_scenarios_are_listed_shown_and_summed_up() {
    let told = |args: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_roost-load")).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let list = told(&["scenarios"]);
    for name in [
        "quick",
        "hold",
        "broadcast",
        "storm",
        "chat-day",
        "group-fanout",
        "reconnect",
        "migrate",
        "soak",
        "echo",
        "seed-parity",
    ] {
        assert!(list.lines().any(|line| line.starts_with(&format!("{name} "))), "{name}: {list}");
        let shown = told(&["scenarios", "--show", name]);
        let folder = tempfile::tempdir().unwrap();
        let own = file(folder.path(), "own.toml", &shown);
        let (ready, own) = (told(&["check", name]), told(&["check", &own]));
        assert_eq!(ready.split_once('\n').unwrap().1, own.split_once('\n').unwrap().1, "{name}");
        for row in ["memory", "descriptors"] {
            assert!(ready.contains(row), "{name}: {ready}");
        }
    }
    let day = told(&["check", "chat-day", "--scale", "0.02"]);
    for part in ["600 by WebSocket, of 6 000 users, chatty", "per second", "morning, forenoon", "22s"] {
        assert!(day.contains(part), "{part}: {day}");
    }
    assert!(told(&["scenarios", "--keys"]).contains("phase.window"));
}

/// Accepts, and does with the connections what `with` does.
fn others(with: impl Fn(std::net::TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || listener.incoming().flatten().for_each(with));
    address
}

#[test]
fn a_target_that_resets_or_speaks_something_else_is_3_and_told_why() {
    let resets = others(|stream| {
        let _ = socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO));
    });
    let ssh = others(|mut stream| {
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n");
        let _ = stream.read(&mut [0; 1024]);
    });
    for address in [resets, ssh] {
        let run = run_ready("quick", &["--clients", "3", "--for", "1s", "--target", &format!("http://{address}")]);
        assert_eq!(run.code, 3, "{}", run.output);
        let why = ["cannot connect to", "no session at"].iter().any(|why| run.output.contains(why));
        assert!(run.report.is_none() && why && run.output.contains(&address.to_string()), "{}", run.output);
    }
}

/// Runs it against a server that is killed once a line of progress has `sign`.
fn killed_at(sign: &str, args: &[&str]) -> Run {
    let (folder, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = common::server(folder.path());
    let target = server.target.clone();
    let more = ["--grace", "1s", "--plain", "--target", &target, "--token-key", &server.token_key];
    let mut command = common::command(&[args, &more].concat(), out.path());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut lines = std::io::BufRead::lines(stderr).map_while(Result::ok);
    assert!(lines.any(|line| line.contains(sign)), "the load never began");
    drop(server);
    for _ in lines {}
    common::finished(child.wait_with_output().unwrap(), out.path())
}

#[test]
fn a_server_that_dies_in_the_middle_leaves_a_partial_report_and_3() {
    let full = ["run", "quick", "--clients", "20", "--rate", "100", "--for", "4s"];
    let run = killed_at("acknowledged/s", &full);
    assert_eq!(run.code, 3, "{}", run.output);
    let report = run.report();
    assert_eq!(report["verdict"], "unreachable");
    assert!(report["partial"].as_str().is_some_and(|why| why.contains("went away in the middle")), "{report:#}");
    assert!(number(report, "/sends/acknowledged") > 0 && number(report, "/lost") == 0, "{report:#}");
}

#[cfg(target_os = "linux")]
#[test]
fn lean_clients_whose_server_dies_tell_the_same() {
    if common::io_uring().is_none() {
        return;
    }
    let run = killed_at(" published", &["run", "broadcast", "--clients", "50", "--rate", "10", "--for", "4s"]);
    assert_eq!(run.code, 3, "{}", run.output);
    let report = run.report();
    assert!(report["partial"].as_str().is_some_and(|why| why.contains("went away in the middle")), "{report:#}");
    assert!(number(report, "/deliveries/pushed") > 0, "{report:#}");
}
