//! `roost doctor` on machines made of files; limits and io_uring are this one's.

use std::path::Path;
use std::process::Output;

use crate::common::{folder, roost};
use serde_json::Value;

/// A machine of 64 GiB with these sysctls.
fn machine(root: &Path, sysctls: &[(&str, &str)]) {
    let memory = ("proc/meminfo".to_owned(), "MemTotal: 67108864 kB\nMemAvailable: 62914560 kB\n");
    let sysctls = sysctls.iter().map(|(name, text)| (format!("proc/sys/{name}"), *text));
    for (path, text) in sysctls.chain([memory]) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

fn doctor(root: &Path, args: &[&str]) -> Output {
    let data = root.join("data");
    let mut all = vec!["doctor", "--system-root", root.to_str().unwrap(), "--data", data.to_str().unwrap()];
    all.extend(args);
    roost(&all).output().unwrap()
}

fn told(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

fn finding<'a>(told: &'a Value, name: &str) -> &'a Value {
    told["findings"].as_array().unwrap().iter().find(|finding| finding["name"] == name).unwrap()
}

#[test]
fn what_stands_in_the_way_is_told_with_its_line_and_an_exit_code_and_fix_does_what_it_may() {
    let (_kept, root) = folder();
    machine(
        &root,
        &[("fs/file-max", "100000\n"), ("fs/file-nr", "1000\t0\t100000\n"), ("net/core/somaxconn", "128\n")],
    );
    // So few that whatever limits this machine has, they are not in the way.
    let few = ["--for", "100"];
    let output = doctor(&root, &[&few[..], &["--json"]].concat());
    let json = told(&output);
    assert_eq!((output.status.code(), &json["status"]), (Some(1), &Value::from("bad")), "{json:#}");
    assert_eq!(json["holds"]["by"]["machine_files"], 99_000);
    let files = finding(&json, "fs.file-max");
    assert_eq!((&files["status"], &files["found"]), (&Value::from("bad"), &Value::from("100000")));
    assert_eq!(files["fixes"][0]["line"], "sysctl -w fs.file-max=262144");
    assert_eq!(finding(&json, "net.core.somaxconn")["status"], "warn");
    let text = String::from_utf8(doctor(&root, &few).stdout).unwrap();
    assert!(text.contains("sysctl -w fs.file-max=262144") && text.contains("do not fit: 1 in the way"), "{text}");

    let output = doctor(&root, &[&few[..], &["--fix", "--json"]].concat());
    let json = told(&output);
    assert_eq!(output.status.code(), Some(0), "{json:#}");
    let done = ["done: sysctl -w fs.file-max=262144", "done: sysctl -w net.core.somaxconn=16384"];
    assert_eq!(json["mended"], Value::from(done.to_vec()));
    assert_eq!(std::fs::read_to_string(root.join("proc/sys/fs/file-max")).unwrap(), "262144");
    assert!(!root.join("data").exists(), "the data directory is not made");
}

#[test]
fn print_writes_the_file_that_lies_in_deploy() {
    let (_kept, root) = folder();
    let output = doctor(&root, &["--for", "1000000", "--print"]);
    let kept = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/90-roost.conf")).unwrap();
    assert!(output.status.success() && output.stdout == kept);
}

#[test]
fn wrong_usage_is_refused() {
    let (_kept, root) = folder();
    for args in [&["--for", "0"][..], &["--fix", "--print"], &["--for", "many"]] {
        assert_eq!(doctor(&root, args).status.code(), Some(2), "{args:?}");
    }
}
