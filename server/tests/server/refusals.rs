//! A wrong start is refused, with words that say what to do.

use std::process::Stdio;

use crate::common::{Server, folder, roost};
use rustix::process::Signal;

/// Exit code and standard error of a start that must fail.
fn refused(args: &[&str]) -> (Option<i32>, String) {
    let output = roost(args).stdout(Stdio::null()).stderr(Stdio::piped()).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_second_server_on_a_directory_is_refused_and_the_first_serves_on() {
    let (_folder, path) = folder();
    let server = Server::start(&path, &[]);
    let data = path.join("data");
    let (code, error) =
        refused(&["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data", data.to_str().unwrap()]);
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains(data.to_str().unwrap()) && error.contains("in use"), "{error}");
    assert_eq!(server.get(server.admin, "/readyz").0, 200);
    assert!(server.stop(Signal::TERM).success());
}

#[test]
fn a_port_in_use_is_refused_before_the_directory_is_touched() {
    let (_folder, path) = folder();
    let server = Server::start(&path, &[]);
    let other = path.join("other");
    let listen = server.listen.to_string();
    let (code, error) =
        refused(&["serve", "--listen", &listen, "--admin", "127.0.0.1:0", "--data", other.to_str().unwrap()]);
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains(&listen) && error.contains("in use"), "{error}");
    assert!(!other.exists());
    let admin = server.admin.to_string();
    let (code, error) =
        refused(&["serve", "--listen", "127.0.0.1:0", "--admin", &admin, "--data", other.to_str().unwrap()]);
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains(&admin) && error.contains("--admin"), "{error}");
}

#[test]
fn a_wrong_setting_is_refused_by_name() {
    let (_folder, path) = folder();
    let file = path.join("roost.toml");
    for (toml, parts) in [
        ("listne = '127.0.0.1:1'\n", &["listne", "line 1"][..]),
        ("heartbeat = '1ms'\n", &["heartbeat", "between"]),
        ("shards = 'many'\n", &["shards", "line 1"]),
    ] {
        std::fs::write(&file, toml).unwrap();
        for command in ["check-config", "serve"] {
            let (code, error) = refused(&[command, "--config", file.to_str().unwrap()]);
            assert_eq!(code, Some(78), "{error}");
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        }
    }
    assert!(!path.join("roost-data").exists());
}

#[test]
fn a_directory_that_is_not_roosts_is_left_alone() {
    let (_folder, path) = folder();
    let data = path.join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("thesis.txt"), "years of work").unwrap();
    let (code, error) =
        refused(&["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data", data.to_str().unwrap()]);
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains(data.to_str().unwrap()), "{error}");
    let names: Vec<_> = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["thesis.txt"]);
}

#[test]
fn f11_a_token_and_a_publish_need_a_server_that_was_started() {
    let (_folder, path) = folder();
    let data = path.join("data");
    let data = data.to_str().unwrap();
    let (code, error) = refused(&["token", "--service", "--data", data]);
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("--data"), "{error}");
    let server = Server::start(&path, &[]);
    let url = format!("http://{}", server.listen);
    let output = roost(&["publish", "news", "hello", "--server", &url, "--data", data]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8(output.stdout).unwrap().contains("\"seq\":1"));
    let (code, error) = refused(&["publish", "c_no", "hello", "--server", &url, "--data", data]);
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("400"), "{error}");
    server.stop(Signal::TERM);
    let (code, error) = refused(&["publish", "news", "hello", "--server", &url, "--data", data]);
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("roost serve"), "{error}");
}
