//! `cargo xtask sbom`: what the shipped programs are made of, as a CycloneDX document.
//!
//! It says the same for the same sources: no time, no random number; the serial number comes from what it says.
//! Packages, versions and features are those that `cargo tree` finds for the programs alone, as they are built; macros
//! and build scripts run in the compiler and are left out. Licences come from the manifests, hashes from `Cargo.lock`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::steps::{Steps, cargo, root, target};
use crate::tools;

/// The packages of the programs that are shipped, and what they are called.
const SHIPPED: &[(&str, &str)] = &[("roost-server", "roost"), ("roost-loadgen", "roost-load")];
/// What the image of `deploy/` is built for.
pub(crate) const PLATFORM: &str = "x86_64-unknown-linux-gnu";
/// Checks a document against the schema of CycloneDX.
const VALIDATOR: &str = "cyclonedx-python-lib[json-validation]==11.12.0";
const VALIDATE: &str = "\
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1], encoding='utf-8').read())
sys.exit(f'{sys.argv[1]}: {error}' if error else 0)
";

/// A package by name and version.
type Id = (String, String);

/// What is known of a package.
#[derive(Default)]
struct Package {
    features: BTreeSet<String>,
    needs: BTreeSet<Id>,
    license: Option<String>,
    description: Option<String>,
    repository: Option<String>,
    hash: Option<String>,
}

/// Writes the document to `out`, or to standard output.
pub(crate) fn write(out: Option<&Path>, platform: &str) -> anyhow::Result<()> {
    let text = document(platform)?;
    match out {
        Some(file) => std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display())),
        None => {
            print!("{text}");
            Ok(())
        }
    }
}

/// Makes it twice, and has it checked against the schema.
pub(crate) fn check(steps: &mut Steps) -> anyhow::Result<()> {
    let text = document(PLATFORM)?;
    if text != document(PLATFORM)? {
        bail!("the list of parts says something else the second time");
    }
    let file = target().join("sbom.cdx.json");
    std::fs::create_dir_all(target())?;
    std::fs::write(&file, text)?;
    let python = tools::python_env(steps, "sbom", &[VALIDATOR])?.join("python3");
    steps.run("list of parts", Command::new(python).args(["-c", VALIDATE]).arg(file))
}

fn document(platform: &str) -> anyhow::Result<String> {
    let mut packages = tree(platform)?;
    describe(&mut packages)?;
    hash(&mut packages, &std::fs::read_to_string(root().join("Cargo.lock"))?);
    let version = env!("CARGO_PKG_VERSION");
    let components: Vec<Value> = packages.iter().map(|(id, package)| component(id, package)).collect();
    let programs: Vec<String> =
        packages.keys().filter(|(name, _)| SHIPPED.iter().any(|(shipped, _)| shipped == name)).map(reference).collect();
    if programs.len() != SHIPPED.len() {
        bail!("a shipped program is missing: {programs:?}");
    }
    let mut dependencies = vec![json!({ "ref": "roost", "dependsOn": programs })];
    dependencies.extend(packages.iter().map(|(id, package)| {
        let needs: Vec<String> = package.needs.iter().map(reference).collect();
        json!({ "ref": reference(id), "dependsOn": needs })
    }));
    let mut document = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "lifecycles": [{ "phase": "pre-build" }],
            "component": {
                "type": "application",
                "bom-ref": "roost",
                "name": "roost",
                "version": version,
                "licenses": [{ "expression": "MIT OR Apache-2.0" }],
            },
            "properties": [{ "name": "roost:platform", "value": platform }],
        },
        "components": components,
        "dependencies": dependencies,
    });
    document["serialNumber"] = json!(serial(&document.to_string()));
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

/// The packages of the shipped programs with their features and edges.
fn tree(platform: &str) -> anyhow::Result<BTreeMap<Id, Package>> {
    let mut packages: BTreeMap<Id, Package> = BTreeMap::new();
    // One by one: built together they would share features that neither has alone.
    for (name, _) in SHIPPED {
        let mut tree = cargo(["tree", "--locked", "--package", name, "--edges", "normal,no-proc-macro"]);
        tree.args(["--target", platform, "--prefix", "depth", "--format", "|{p}|{f}"]);
        let output = tree.output().context("cannot run cargo tree")?;
        if !output.status.success() {
            bail!("cargo tree failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        let mut above: Vec<Id> = Vec::new();
        for line in String::from_utf8(output.stdout)?.lines() {
            let (depth, id, features) = parse(line).with_context(|| format!("cargo tree said: {line}"))?;
            above.truncate(depth);
            if let Some(parent) = above.last() {
                packages.entry(parent.clone()).or_default().needs.insert(id.clone());
            }
            packages.entry(id.clone()).or_default().features.extend(features);
            above.push(id);
        }
    }
    Ok(packages)
}

/// One line of `cargo tree`: `2|serde v1.0.0|derive,std (*)`.
fn parse(line: &str) -> Option<(usize, Id, Vec<String>)> {
    let mut parts = line.split('|');
    let depth = parts.next()?.parse().ok()?;
    let mut words = parts.next()?.split(' ');
    let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
    let features = parts.next()?.trim_end_matches("(*)").trim();
    let features = features.split(',').filter(|feature| !feature.is_empty()).map(str::to_owned).collect();
    Some((depth, (name.to_owned(), version.to_owned()), features))
}

/// Adds what manifests say.
fn describe(packages: &mut BTreeMap<Id, Package>) -> anyhow::Result<()> {
    let output =
        cargo(["metadata", "--locked", "--format-version", "1"]).output().context("cannot run cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    for manifest in metadata["packages"].as_array().context("no packages")? {
        let text = |field: &str| manifest[field].as_str().map(str::to_owned);
        let (Some(name), Some(version)) = (text("name"), text("version")) else { continue };
        if let Some(package) = packages.get_mut(&(name, version)) {
            // As was written before SPDX expressions: MIT/Apache-2.0.
            package.license = text("license").map(|license| license.replace(" / ", "/").replace('/', " OR "));
            package.description =
                text("description").map(|words| words.split_whitespace().collect::<Vec<_>>().join(" "));
            package.repository = text("repository");
        }
    }
    match packages.iter().find(|(_, package)| package.license.is_none()) {
        Some(((name, version), _)) => bail!("{name} {version} names no licence"),
        None => Ok(()),
    }
}

/// Adds the hashes of the lock file.
fn hash(packages: &mut BTreeMap<Id, Package>, lock: &str) {
    for block in lock.split("[[package]]") {
        let field = |name: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "));
            line.map(|value| value.trim_matches('"').to_owned())
        };
        let (Some(name), Some(version)) = (field("name"), field("version")) else { continue };
        if let Some(package) = packages.get_mut(&(name, version)) {
            package.hash = field("checksum");
        }
    }
}

fn reference((name, version): &Id) -> String {
    format!("pkg:cargo/{name}@{}", version.replace('+', "%2B"))
}

fn component(id: &Id, package: &Package) -> Value {
    let program = SHIPPED.iter().find(|(name, _)| *name == id.0);
    let mut component = json!({
        "type": if program.is_some() { "application" } else { "library" },
        "bom-ref": reference(id),
        "name": id.0,
        "version": id.1,
        "scope": "required",
        "purl": reference(id),
        "licenses": [{ "expression": package.license }],
    });
    if let Some(description) = &package.description {
        component["description"] = json!(description);
    }
    if let Some(hash) = &package.hash {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": hash }]);
    }
    if let Some(repository) = &package.repository {
        component["externalReferences"] = json!([{ "type": "vcs", "url": repository }]);
    }
    let features = package.features.iter().map(|feature| json!({ "name": "cargo:feature", "value": feature }));
    let program = program.map(|(_, program)| json!({ "name": "roost:program", "value": program }));
    let properties: Vec<Value> = program.into_iter().chain(features).collect();
    if !properties.is_empty() {
        component["properties"] = json!(properties);
    }
    component
}

/// A UUID of version 8 (RFC 9562 §5.8) made of what the document says.
fn serial(text: &str) -> String {
    let mut bytes: [u8; 32] = Sha256::digest(text).into();
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("urn:uuid:{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_cargo_tree_are_read() {
        let id = |name: &str, version: &str| (name.to_owned(), version.to_owned());
        for (line, wanted) in [
            ("0|roost-wire v0.1.0 (/src/wire)|", Some((0, id("roost-wire", "0.1.0"), vec![]))),
            ("12|serde v1.0.1|derive,std (*)", Some((12, id("serde", "1.0.1"), vec!["derive".into(), "std".into()]))),
            ("3|zstd-sys v2.0.1+zstd.1.5.7|", Some((3, id("zstd-sys", "2.0.1+zstd.1.5.7"), vec![]))),
            ("[build-dependencies]", None),
        ] {
            assert_eq!(parse(line), wanted, "{line}");
        }
    }

    #[test]
    fn the_lock_gives_hashes_and_the_same_text_the_same_serial() {
        let id = ("a".to_owned(), "1.0.0".to_owned());
        let mut packages = BTreeMap::from([(id.clone(), Package::default())]);
        hash(&mut packages, "[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nchecksum = \"ab12\"\n");
        assert_eq!(packages[&id].hash.as_deref(), Some("ab12"));
        assert_eq!(serial("x"), serial("x"));
        assert_ne!(serial("x"), serial("y"));
        assert_eq!(&serial("x")[23..24], "8", "{}", serial("x"));
    }
}
