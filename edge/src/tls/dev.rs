//! A certificate of one's own making, for one's own machine.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use time::OffsetDateTime;

use super::identity::IdentityError;
use super::validity::Validity;

const DAY: i64 = 86_400;
/// How long it is valid: browsers take one by its hash for WebTransport if that is no more than two weeks.
const VALID: i64 = 10 * DAY;
/// It is made anew when less than this is left.
const LEFT: i64 = 3 * DAY;
/// Clocks differ.
const BEFORE: i64 = 3600;
/// For whom it is good.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Where certificate and key are kept.
pub(super) fn paths(dir: &Path) -> (PathBuf, PathBuf) {
    (dir.join("cert.pem"), dir.join("key.pem"))
}

/// Makes certificate and key, unless those in `dir` are good for some days more.
pub(super) fn renew(dir: &Path, unix_s: i64) -> Result<(), IdentityError> {
    let (cert, key) = paths(dir);
    if key.exists() && lasts(&cert, unix_s) {
        return Ok(());
    }
    let time = |unix_s| OffsetDateTime::from_unix_timestamp(unix_s).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let mut params = CertificateParams::new(NAMES.map(str::to_owned))?;
    params.distinguished_name.push(DnType::CommonName, "roost on this machine");
    params.not_before = time(unix_s - BEFORE);
    params.not_after = time(unix_s - BEFORE + VALID);
    let pair = KeyPair::generate()?;
    let made = params.self_signed(&pair)?;
    let write = |path: &Path, text: String, secret| {
        replace(path, text.as_bytes(), secret).map_err(|error| IdentityError::Write { path: path.to_owned(), error })
    };
    fs::create_dir_all(dir).map_err(|error| IdentityError::Write { path: dir.to_owned(), error })?;
    // Without a certificate both are made anew: an end between the two leaves no pair that does not match.
    match fs::remove_file(&cert) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(IdentityError::Write { path: cert, error });
        }
        _ => {}
    }
    write(&key, pair.serialize_pem(), true)?;
    write(&cert, made.pem(), false)
}

fn lasts(cert: &Path, unix_s: i64) -> bool {
    let der = fs::read(cert).ok().and_then(|text| CertificateDer::from_pem_slice(&text).ok());
    der.and_then(|der| Validity::of(&der))
        .is_some_and(|validity| validity.not_before <= unix_s && unix_s + LEFT < validity.not_after)
}

/// Puts a file in the place of another in one step, so that nobody reads a half.
fn replace(path: &Path, bytes: &[u8], secret: bool) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, if secret { 0o600 } else { 0o644 });
    #[cfg(not(unix))]
    let _ = secret;
    let mut file = options.open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}
