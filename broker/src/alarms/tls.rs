//! TLS for what goes out: rustls with graviola, which needs neither a C compiler nor an assembler. Certificates are judged
//! by those that the system trusts, and by those of a file that is configured.

use std::fmt;

use tokio::io::{AsyncRead, AsyncWrite};

/// A connection, whichever it is.
pub(super) type Stream = Box<dyn Connection>;

/// What a connection can do.
pub(super) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// Set up when it is first needed: most brokers tell nobody over TLS.
#[derive(Default)]
pub(super) struct Tls {
    /// A file of certificates that are trusted beside the system's; empty: none.
    ca_file: String,
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    client: std::sync::OnceLock<std::sync::Arc<rustls::ClientConfig>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("ca_file", &self.ca_file).finish_non_exhaustive()
    }
}

impl Tls {
    pub(super) fn new(ca_file: &str) -> Self {
        Self { ca_file: ca_file.to_owned(), ..Self::default() }
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
impl Tls {
    /// This build has none.
    pub(super) async fn encrypt(&self, _: Stream, _: &str) -> Result<Stream, String> {
        Err("this build has no TLS; send to a proxy on this machine that has".to_owned())
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
impl Tls {
    /// The same connection, encrypted from here on, to whoever proves to be `host`.
    ///
    /// # Errors
    /// What went wrong, for people.
    pub(super) async fn encrypt(&self, stream: Stream, host: &str) -> Result<Stream, String> {
        let name = rustls::pki_types::ServerName::try_from(host.to_owned());
        let name = name.map_err(|_| format!("{host:?} is no name for TLS"))?;
        let connector = tokio_rustls::TlsConnector::from(self.client()?);
        match connector.connect(name, stream).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(format!("TLS failed: {error}")),
        }
    }

    fn client(&self) -> Result<std::sync::Arc<rustls::ClientConfig>, String> {
        if let Some(client) = self.client.get() {
            return Ok(client.clone());
        }
        if !processor_will_do() {
            return Err(
                "this processor lacks what TLS needs here (AVX2, ADX, BMI2, AES); send to a proxy that has \
                        TLS"
                .to_owned(),
            );
        }
        let provider = std::sync::Arc::new(rustls_graviola::default_provider());
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot be set up: {error}"))?
            .with_root_certificates(self.roots()?)
            .with_no_client_auth();
        Ok(self.client.get_or_init(|| std::sync::Arc::new(client)).clone())
    }

    fn roots(&self) -> Result<rustls::RootCertStore, String> {
        use rustls::pki_types::CertificateDer;
        use rustls::pki_types::pem::PemObject as _;

        let mut roots = rustls::RootCertStore::empty();
        let (mut known, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if !self.ca_file.is_empty() {
            let wrong = |error: &dyn fmt::Display| format!("alarms.ca_file {:?}: {error}", self.ca_file);
            let certificates = CertificateDer::pem_file_iter(&self.ca_file).map_err(|error| wrong(&error))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| wrong(&error))?;
                roots.add(certificate).map_err(|error| wrong(&error))?;
                known += 1;
            }
        }
        match known {
            0 => Err("this system trusts nobody: install its CA certificates (Debian: ca-certificates), or name a \
                      file of them in alarms.ca_file"
                .to_owned()),
            _ => Ok(roots),
        }
    }
}

/// What graviola asks of a processor: anything since 2014 or so has it.
#[cfg(target_arch = "x86_64")]
fn processor_will_do() -> bool {
    use std::arch::is_x86_feature_detected as has;
    let aes = has!("aes") && has!("ssse3") && has!("pclmulqdq");
    aes && has!("avx") && has!("avx2") && has!("bmi1") && has!("bmi2") && has!("adx")
}

/// What graviola asks of a processor.
#[cfg(target_arch = "aarch64")]
fn processor_will_do() -> bool {
    use std::arch::is_aarch64_feature_detected as has;
    has!("neon") && has!("aes") && has!("pmull") && has!("sha2")
}
