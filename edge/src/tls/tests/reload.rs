//! Certificates that change.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, KeyPair};
use time::OffsetDateTime;

use super::super::identity::{Identity, IdentityError, Reload};

const DAY: i64 = 86_400;

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

/// A directory with a certificate that is valid from `from` until `until`, in days from now.
struct Pair(tempfile::TempDir);

impl Pair {
    fn new(from: i64, until: i64) -> Self {
        let pair = Self(tempfile::tempdir().unwrap());
        pair.put(from, until);
        pair
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, from: i64, until: i64) {
        let time = |days| OffsetDateTime::from_unix_timestamp(now() + days * DAY).unwrap();
        let mut params = CertificateParams::new(["chat.example".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (time(from), time(until));
        let key = KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap();
        self.replace("cert.pem", &made.pem());
        self.replace("key.pem", &key.serialize_pem());
    }

    /// In one step, as tools do that renew certificates.
    fn replace(&self, name: &str, text: &str) {
        fs::write(self.path("new"), text).unwrap();
        fs::rename(self.path("new"), self.path(name)).unwrap();
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn open(&self) -> Result<std::sync::Arc<Identity>, IdentityError> {
        Identity::from_files(&self.path("cert.pem"), &self.path("key.pem"), now())
    }
}

#[test]
fn a_new_pair_is_taken_once_it_is_there_and_only_then() {
    let pair = Pair::new(-1, 5);
    let identity = pair.open().unwrap();
    let first = identity.chain();
    assert_eq!(identity.reload_changed(now()).unwrap(), Reload::Same);
    pair.put(-1, 50);
    assert_eq!(identity.chain(), first, "nothing happens by itself");
    assert_eq!(identity.reload_changed(now()).unwrap(), Reload::Taken);
    assert_ne!(identity.chain(), first);
    assert!(identity.not_after() > now() + 49 * DAY);
    assert_eq!(identity.reload_changed(now()).unwrap(), Reload::Same);
    // Who asks gets it read again, changed or not.
    identity.reload(now()).unwrap();
}

#[test]
fn what_cannot_be_used_leaves_the_old_pair_and_is_told_once_with_its_file() {
    let (stale, early, other) = (Pair::new(-90, -3), Pair::new(2, 90), Pair::new(-1, 90));
    for (what, cert, key, told) in [
        ("expired", Some(stale.text("cert.pem")), Some(stale.text("key.pem")), "cert.pem expired 3 days ago"),
        ("too early", Some(early.text("cert.pem")), Some(early.text("key.pem")), "is valid only in"),
        ("the key of another", Some(other.text("cert.pem")), None, "does not go with"),
        ("no certificate", Some("nothing".into()), None, "cert.pem has no certificate"),
        ("a cut file", Some("-----BEGIN CERTIFICATE-----\nMIIB".into()), None, "cert.pem is no PEM file"),
        (
            "no certificate in it",
            Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into()),
            None,
            "cert.pem is damaged",
        ),
        ("no key", None, Some("nothing".into()), "key.pem has no private key"),
        (
            "an encrypted key",
            None,
            Some("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n".into()),
            "key.pem is encrypted",
        ),
    ] {
        let pair = Pair::new(-1, 5);
        let identity = pair.open().unwrap();
        let (chain, until) = (identity.chain(), identity.not_after());
        for (name, text) in [("cert.pem", cert), ("key.pem", key)] {
            if let Some(text) = text {
                pair.replace(name, &text);
            }
        }
        let error = identity.reload_changed(now()).expect_err(what).to_string();
        assert!(error.contains(told), "{what}: {error}");
        assert_eq!((identity.chain(), identity.not_after()), (chain, until), "{what}");
        // The same files are not spoken of every few seconds; who asks hears it again.
        assert_eq!(identity.reload_changed(now()).unwrap(), Reload::Same, "{what}");
        assert!(identity.reload(now()).is_err(), "{what}");
        assert!(pair.open().is_err(), "{what}: nor does a server begin with it");
        // And a good pair is taken after all.
        pair.put(-1, 60);
        assert_eq!(identity.reload_changed(now()).unwrap(), Reload::Taken, "{what}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = Identity::from_files(Path::new("/nonexistent/cert.pem"), Path::new("/nonexistent/key.pem"), now());
    assert!(error.unwrap_err().to_string().starts_with("cannot read /nonexistent/cert.pem"));
    let pair = Pair::new(-1, 5);
    let identity = pair.open().unwrap();
    fs::remove_file(pair.path("key.pem")).unwrap();
    assert!(identity.reload_changed(now()).unwrap_err().to_string().contains("key.pem"));
}

#[test]
fn a_self_made_certificate_is_kept_and_made_anew_before_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let identity = Identity::dev(dir.path(), now()).unwrap();
    let first = identity.chain();
    let days = (identity.not_after() - now()) / DAY;
    assert!((9..=10).contains(&days), "{days} days");
    assert_eq!(Identity::dev(dir.path(), now()).unwrap().chain(), first, "the next start takes the same");
    assert_eq!(identity.reload_changed(now() + 5 * DAY).unwrap(), Reload::Same);
    assert_eq!(identity.reload_changed(now() + 8 * DAY).unwrap(), Reload::Taken);
    assert!(identity.chain() != first && identity.not_after() > now() + 17 * DAY);
    // Half a pair is no pair.
    fs::remove_file(dir.path().join("key.pem")).unwrap();
    assert_eq!(identity.reload_changed(now() + 8 * DAY).unwrap(), Reload::Taken);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(dir.path().join("key.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "the key is nobody else's");
    }
}
