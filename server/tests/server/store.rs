//! `roost store check` and `repair`, as an operator uses them.

use std::path::Path;
use std::process::Output;

use crate::common::{Client, Server, folder, roost};
use rustix::process::Signal;
use serde_json::{Value, json};

fn store(command: &str, dir: &Path, flags: &[&str]) -> Output {
    let dir = dir.to_str().unwrap();
    roost(&[&["store", command, dir], flags].concat()).output().unwrap()
}

fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A server's data directory with a conversation of Ada and Bob, and how many entries it has.
async fn served(path: &Path) -> (Server, String) {
    let server = Server::start(path, &[]);
    let (ada, bob) = (server.guest("Ada"), server.guest("Bob"));
    let mut client = Client::connect(server.listen, &ada).await;
    let conv = client.direct(&bob).await;
    for number in 0..20 {
        let body = json!({"conv": conv, "cmid": format!("m{number}"), "body": {"text": "hi"}});
        client.ask("send", body, "sent").await.unwrap();
    }
    (server, conv)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_server_keeps_check_and_repair_out_and_is_named() {
    let (_folder, path) = folder();
    let (server, _) = served(&path).await;
    for command in ["check", "repair"] {
        let output = store(command, &path.join("data"), &[]);
        assert_eq!(output.status.code(), Some(3), "{}", told(&output));
        assert!(told(&output).contains("in use by process"), "{}", told(&output));
    }
    assert!(server.stop(Signal::TERM).success());
    let output = store("check", &path.join("data"), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(told(&output).contains("Sound."), "{}", told(&output));
    let output = store("repair", &path.join("data"), &["--yes"]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(told(&output).contains("nothing was changed"), "{}", told(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_store_is_refused_checked_repaired_and_served_again() {
    let (_folder, path) = folder();
    let (server, conv) = served(&path).await;
    assert!(server.stop(Signal::TERM).success());
    let data = path.join("data");
    // The end of the journal is cut off, in the middle of what was acknowledged.
    let journals = std::fs::read_dir(data.join("data")).unwrap().map(|found| found.unwrap().path());
    let journal = journals.filter(|path| path.extension().is_some_and(|end| end == "jnl")).max().unwrap();
    let bytes = std::fs::read(&journal).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    std::fs::write(&journal, &bytes[..end * 2 / 3]).unwrap();

    let args = ["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data", data.to_str().unwrap()];
    let output = roost(&args).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    for part in ["damaged", "acknowledged", "roost store check", "roost store repair", journal.to_str().unwrap()] {
        assert!(told(&output).contains(part), "{part}: {}", told(&output));
    }
    let output = store("check", &data, &["--json"]);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["problems_by_kind"]["lost"].as_u64() > Some(0), "{report}");

    let output = store("repair", &data, &[]);
    assert_eq!(output.status.code(), Some(2), "nobody answers: {}", told(&output));
    let output = store("repair", &data, &["--yes", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let repaired: Value = serde_json::from_slice(&output.stdout).unwrap();
    let backup = Path::new(repaired["backup"].as_str().unwrap());
    assert!(backup.join("roost.json").is_file(), "{repaired}");
    assert_eq!(store("check", &data, &[]).status.code(), Some(0));
    assert_eq!(store("check", backup, &[]).status.code(), Some(1), "the copy is as damaged");

    let server = Server::start(&path, &[]);
    let ada = server.guest("Eve");
    let mut client = Client::connect(server.listen, &ada).await;
    assert!(client.ask("history", json!({"conv": conv, "after": 0}), "page").await.is_err(), "Eve may not read it");
    assert!(server.stop(Signal::TERM).success());
    assert_eq!(store("check", &data, &[]).status.code(), Some(0));
}

#[test]
fn what_is_no_store_is_refused_and_the_help_has_examples() {
    let (_folder, path) = folder();
    for command in ["check", "repair"] {
        let output = store(command, &path, &[]);
        assert_eq!(output.status.code(), Some(3), "{}", told(&output));
        assert_eq!(roost(&["store", command]).output().unwrap().status.code(), Some(2), "no directory");
        let help = told(&roost(&["store", command, "--help"]).output().unwrap());
        assert!(help.contains("EXAMPLES") && help.contains(&format!("roost store {command} ")), "{help}");
    }
    assert_eq!(store("check", &path.join("none"), &[]).status.code(), Some(3));
    assert!(!path.join("none").exists(), "check makes nothing");
}
