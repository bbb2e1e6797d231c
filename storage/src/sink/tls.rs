//! TLS towards a store, or another server that is asked: which certificate authorities are trusted.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

/// A client's side of TLS. It trusts the authorities in `ca_file`, or the system's. Where TLS is
/// not `needed`, none at all will do. The error says what is wrong with them.
pub fn client_config(ca_file: Option<&Path>, needed: bool) -> Result<rustls::ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    Ok(builder.with_root_certificates(roots(ca_file, needed)?).with_no_client_auth())
}

fn roots(ca_file: Option<&Path>, needed: bool) -> Result<rustls::RootCertStore, String> {
    let mut roots = rustls::RootCertStore::empty();
    let certificates = match ca_file {
        Some(path) => {
            let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
            let wrong = |e: &dyn Display| format!("ca_file: cannot read {}: {e}", whole.display());
            let pems = CertificateDer::pem_file_iter(path).map_err(|e| wrong(&e))?;
            pems.collect::<Result<Vec<_>, _>>().map_err(|e| wrong(&e))?
        }
        None if needed => rustls_native_certs::load_native_certs().certs,
        None => return Ok(roots),
    };
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 {
        let what = "holds no certificate; name a PEM file of the authority that signed the store's";
        return Err(format!("ca_file: {what}"));
    }
    Ok(roots)
}
