//! Small files that must be whole or absent, and secrets kept beside the data.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::failpoint::{failpoint, torn};

/// Bytes of a secret.
pub const SECRET_BYTES: usize = 32;

/// Writes `bytes` to `path` so that after a crash the file is the old one or the new one. Mode 0600.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().ok_or_else(|| io::Error::other("a file without a directory"))?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let _ = fs::remove_file(&temporary); // of an earlier crash
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    failpoint!(WholeCreate);
    torn!(WholeWrite, bytes, |bytes: &[u8]| file.write_all(bytes))?;
    failpoint!(WholeWrite);
    file.sync_all()?;
    failpoint!(WholeSync);
    fs::rename(&temporary, path)?;
    failpoint!(WholeRename);
    sync_dir(dir)?;
    failpoint!(WholeSyncDir);
    Ok(())
}

/// Makes the names in `dir` durable: a file that was synced can still be missing after a crash without this.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Random bytes of the kernel.
pub(crate) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a String does not fail
        text
    })
}

fn from_hex(text: &str) -> Option<[u8; SECRET_BYTES]> {
    if text.len() != SECRET_BYTES * 2 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut secret = [0; SECRET_BYTES];
    for (place, byte) in secret.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[place * 2..place * 2 + 2], 16).ok()?;
    }
    Some(secret)
}

/// Where [`make_or_read_secret`] keeps the secret `name` of the data directory `dir`.
pub(crate) fn secret_path(dir: &Path, name: &str) -> PathBuf {
    dir.join("secrets").join(name)
}

/// Reads the secret in the file `path`: 64 hexadecimal digits and a newline.
///
/// # Errors
/// [`io::ErrorKind::NotFound`] if there is none, [`io::ErrorKind::InvalidData`] if the file holds something else.
pub fn read_secret(path: &Path) -> io::Result<[u8; SECRET_BYTES]> {
    let text = fs::read_to_string(path)?;
    from_hex(text.trim_ascii_end()).ok_or_else(|| {
        let path = path.display();
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{path} does not hold {} hexadecimal digits", 2 * SECRET_BYTES),
        )
    })
}

/// Reads the secret `name` of the data directory `dir`; draws it first if it is not there. The caller holds the lock.
pub(crate) fn make_or_read_secret(dir: &Path, name: &str) -> io::Result<[u8; SECRET_BYTES]> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if name.is_empty() || !name.bytes().all(plain) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a secret's name holds letters, digits and - only"));
    }
    let path = secret_path(dir, name);
    match read_secret(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        read => return read,
    }
    match fs::DirBuilder::new().mode(0o700).create(dir.join("secrets")) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => sync_dir(dir)?,
    }
    failpoint!(SecretDir);
    let secret = random()?;
    write_whole(&path, format!("{}\n", to_hex(&secret)).as_bytes())?;
    failpoint!(SecretWrite);
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_is_drawn_once_and_nobody_else_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let secret = make_or_read_secret(dir.path(), "hs256").unwrap();
        assert_eq!(make_or_read_secret(dir.path(), "hs256").unwrap(), secret);
        assert_ne!(make_or_read_secret(dir.path(), "other").unwrap(), secret);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&secret_path(dir.path(), "hs256")), 0o600);
        assert_eq!(mode(&dir.path().join("secrets")), 0o700);
    }

    #[test]
    fn a_damaged_secret_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        make_or_read_secret(dir.path(), "hs256").unwrap();
        let path = secret_path(dir.path(), "hs256");
        for bad in ["", "00", &"g".repeat(64), &"é".repeat(32)] {
            fs::write(&path, bad).unwrap();
            let error = make_or_read_secret(dir.path(), "hs256").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{bad:?}");
            assert_eq!(fs::read_to_string(&path).unwrap(), bad);
        }
    }

    #[test]
    fn a_secret_name_cannot_leave_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["", "../x", "a/b", "."] {
            let error = make_or_read_secret(dir.path(), name).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name:?}");
        }
    }
}
