//! Who the server is: its certificate and private key, used by every handshake and changed without a restart.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::{Mutex, RwLock};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ProducesTickets, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, crypto};

use super::dev;
use super::validity::Validity;

const DAY: i64 = 86_400;

/// Why a certificate cannot be used. Each names the file, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// A file cannot be read.
    #[error("cannot read {path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The self-made certificate cannot be kept.
    #[error("cannot write {path}: {error}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A file is no PEM.
    #[error("{path} is no PEM file: {error}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// Where it breaks.
        error: pem::Error,
    },
    /// No certificate is in the file.
    #[error(
        "{0} has no certificate: PEM is needed, with lines BEGIN CERTIFICATE, the server's own certificate first and \
         then those it is signed with"
    )]
    NoCertificate(PathBuf),
    /// No private key is in the file.
    #[error("{0} has no private key: PEM is needed, with a line BEGIN PRIVATE KEY")]
    NoKey(PathBuf),
    /// The private key needs a password.
    #[error("the private key in {0} is encrypted: write it without a password, by `openssl pkey -in OLD -out NEW`")]
    Encrypted(PathBuf),
    /// The first certificate cannot be understood.
    #[error("the first certificate in {0} is damaged")]
    Damaged(PathBuf),
    /// The key is of a kind that TLS does not know, or belongs to another certificate.
    #[error("the private key in {key} does not go with the first certificate in {cert}: {error}")]
    Unfit {
        /// The file with the certificate.
        cert: PathBuf,
        /// The file with the key.
        key: PathBuf,
        /// What is wrong.
        error: rustls::Error,
    },
    /// The certificate is too old.
    #[error("the certificate in {path} expired {days} days ago: put a new one there")]
    Expired {
        /// The file.
        path: PathBuf,
        /// Full days since.
        days: i64,
    },
    /// The certificate is too young, or the clock is wrong.
    #[error("the certificate in {path} is valid only in {days} days: is the clock of this machine right?")]
    TooEarly {
        /// The file.
        path: PathBuf,
        /// Full days until then.
        days: i64,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// The cryptography does not work here.
    #[error("TLS does not work here: {0}")]
    Tls(#[from] rustls::Error),
}

/// The certificate and key in use. Handshakes ask it, so a change concerns new ones alone.
pub struct Identity {
    source: Source,
    provider: Arc<CryptoProvider>,
    /// One for all shards and transports: a session that began at one is resumed at any other.
    ticketer: Arc<dyn ProducesTickets>,
    held: RwLock<Held>,
    /// What the files were when they were last looked at, whether they could be used or not.
    seen: Mutex<Stamps>,
}

/// Where it comes from.
#[derive(Clone, Debug)]
enum Source {
    /// Somebody put it there.
    Files { cert: PathBuf, key: PathBuf },
    /// Self-made, and kept in the directory.
    Dev { dir: PathBuf },
}

struct Held {
    key: Arc<CertifiedKey>,
    validity: Validity,
}

/// What tells that a file is another: its time, its length and, if there is such a thing, its number.
type Stamps = [Option<(SystemTime, u64, u64)>; 2];

/// What a look at the files brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// They are what they were.
    Same,
    /// A new pair is in use.
    Taken,
}

impl Identity {
    /// Takes the certificate chain in `cert` and its key in `key`, both PEM. `unix_s` is the time.
    ///
    /// # Errors
    /// [`IdentityError`], which names the file and what to do.
    pub fn from_files(cert: &Path, key: &Path, unix_s: i64) -> Result<Arc<Self>, IdentityError> {
        Self::new(Source::Files { cert: cert.to_owned(), key: key.to_owned() }, unix_s)
    }

    /// Makes a certificate for `localhost`, `127.0.0.1` and `::1`, or takes the one in `dir` if it is good for some days
    /// more. Nobody trusts it who was not given it: for one's own machine.
    ///
    /// # Errors
    /// [`IdentityError`]: the directory cannot be written, most likely.
    pub fn dev(dir: &Path, unix_s: i64) -> Result<Arc<Self>, IdentityError> {
        Self::new(Source::Dev { dir: dir.to_owned() }, unix_s)
    }

    fn new(source: Source, unix_s: i64) -> Result<Arc<Self>, IdentityError> {
        let provider = Arc::new(provider());
        if let Source::Dev { dir } = &source {
            dev::renew(dir, unix_s)?;
        }
        let seen = source.stamps();
        let held = source.load(&provider, unix_s)?;
        let ticketer = crypto::aws_lc_rs::Ticketer::new()?;
        Ok(Arc::new(Self { source, provider, ticketer, held: RwLock::new(held), seen: Mutex::new(seen) }))
    }

    /// Takes what the files hold now, if they changed since the last look. A self-made certificate is made anew when
    /// its end is near.
    ///
    /// # Errors
    /// What they hold cannot be used. The old pair stays, and the same files are not looked at again.
    pub fn reload_changed(&self, unix_s: i64) -> Result<Reload, IdentityError> {
        if let Source::Dev { dir } = &self.source {
            dev::renew(dir, unix_s)?;
        }
        let now = self.source.stamps();
        if *self.seen.lock() == now {
            return Ok(Reload::Same);
        }
        self.reload(unix_s).map(|()| Reload::Taken)
    }

    /// Takes what the files hold now, changed or not.
    ///
    /// # Errors
    /// What they hold cannot be used. The old pair stays.
    pub fn reload(&self, unix_s: i64) -> Result<(), IdentityError> {
        // Before they are read: what changes meanwhile is seen the next time.
        *self.seen.lock() = self.source.stamps();
        let held = self.source.load(&self.provider, unix_s)?;
        *self.held.write() = held;
        Ok(())
    }

    /// The last second in which the certificate is valid, since the Unix epoch.
    #[must_use]
    pub fn not_after(&self) -> i64 {
        self.held.read().validity.not_after
    }

    /// The file with the certificate.
    #[must_use]
    pub fn cert_path(&self) -> PathBuf {
        self.source.paths().0
    }

    /// The certificates, the server's own first.
    #[must_use]
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.held.read().key.cert.clone()
    }

    /// Settings for servers whose clients are to name one of `alpn`, if they name any: TLS 1.3 and 1.2, one ticket that any shard
    /// can resume, no early data.
    ///
    /// # Errors
    /// The cryptography does not work here.
    pub fn server_config(self: &Arc<Self>, alpn: &[&[u8]]) -> Result<ServerConfig, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        // Ours first: a handshake with AES-128-GCM-SHA256 takes 14 to 22 % less of the CPU than OpenSSL's first choice.
        config.ignore_client_order = true;
        config.ticketer = self.ticketer.clone();
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 1;
        Ok(config)
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.held.read().key.clone())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("source", &self.source).finish_non_exhaustive()
    }
}

/// The cryptography: aws-lc, with AES-128-GCM-SHA256 as the first choice.
fn provider() -> CryptoProvider {
    let mut provider = crypto::aws_lc_rs::default_provider();
    let first = crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    provider.cipher_suites.sort_by_key(|suite| *suite != first);
    provider
}

impl Source {
    fn paths(&self) -> (PathBuf, PathBuf) {
        match self {
            Self::Files { cert, key } => (cert.clone(), key.clone()),
            Self::Dev { dir } => dev::paths(dir),
        }
    }

    fn stamps(&self) -> Stamps {
        let (cert, key) = self.paths();
        [cert, key].map(|path| {
            let data = fs::metadata(path).ok()?;
            #[cfg(unix)]
            let number = std::os::unix::fs::MetadataExt::ino(&data);
            #[cfg(not(unix))]
            let number = 0;
            Some((data.modified().ok()?, data.len(), number))
        })
    }

    fn load(&self, provider: &CryptoProvider, unix_s: i64) -> Result<Held, IdentityError> {
        let (cert, key) = self.paths();
        let chain = chain(&cert)?;
        let validity = Validity::of(&chain[0]).ok_or_else(|| IdentityError::Damaged(cert.clone()))?;
        if unix_s > validity.not_after {
            return Err(IdentityError::Expired { path: cert, days: (unix_s - validity.not_after) / DAY });
        }
        if unix_s < validity.not_before {
            return Err(IdentityError::TooEarly { path: cert, days: (validity.not_before - unix_s) / DAY });
        }
        let der = private_key(&key)?;
        match CertifiedKey::from_der(chain, der, provider) {
            Ok(certified) => Ok(Held { key: Arc::new(certified), validity }),
            Err(error) => Err(IdentityError::Unfit { cert, key, error }),
        }
    }
}

/// Reads a chain that is not empty.
fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    let chain = chain.map_err(|error| IdentityError::Pem { path: path.to_owned(), error })?;
    if chain.is_empty() { Err(IdentityError::NoCertificate(path.to_owned())) } else { Ok(chain) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, IdentityError> {
    let text = read(path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        pem::Error::NoItemsFound if text.windows(9).any(|word| word == b"ENCRYPTED") => {
            IdentityError::Encrypted(path.to_owned())
        }
        pem::Error::NoItemsFound => IdentityError::NoKey(path.to_owned()),
        error => IdentityError::Pem { path: path.to_owned(), error },
    })
}

fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    fs::read(path).map_err(|error| IdentityError::Read { path: path.to_owned(), error })
}
