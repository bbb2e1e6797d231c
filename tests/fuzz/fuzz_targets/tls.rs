//! TLS: whatever a peer sends at whatever split, a session answers or fails for good, and keeps
//! only what an incomplete record needs.
#![cfg_attr(fuzzing, no_main)]

#[cfg(not(fuzzing))]
fn main() {}

#[cfg(fuzzing)]
mod target {
    use proto::tls::{IDLE_BYTES, SPILL_BYTES_MAX, TlsConfig, TlsError, TlsSession};
    use std::sync::LazyLock;

    static CONFIG: LazyLock<TlsConfig> = LazyLock::new(|| {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let key_pem = made.signing_key.serialize_pem();
        TlsConfig::from_pem(made.cert.pem().as_bytes(), key_pem.as_bytes()).unwrap()
    });

    fn run_one(parts: &[&[u8]]) -> (Vec<u8>, Option<TlsError>) {
        let mut session = TlsSession::new(&CONFIG);
        let (mut plain, mut out) = (Vec::new(), Vec::new());
        let mut failed = None;
        for part in parts {
            let said = out.len();
            match session.feed(part, &mut plain, &mut out) {
                Ok(progress) => {
                    assert!(failed.is_none(), "an error is final");
                    assert!(session.memory_bytes() <= IDLE_BYTES + 4 * SPILL_BYTES_MAX);
                    let writable = session.write(b"x", &mut out).is_ok();
                    assert_eq!(writable, progress.handshake_done);
                }
                Err(error) if failed.is_some() => {
                    assert_eq!((failed, out.len()), (Some(error), said));
                }
                Err(error) => {
                    let silent = matches!(error, TlsError::PeerAlert(_));
                    assert!(silent || !out.is_empty(), "{error}: an alert is due");
                    failed = Some(error);
                }
            }
        }
        session.close_notify(&mut out);
        (plain, failed)
    }

    pub fn run(data: &[u8]) {
        let Some((cut, input)) = data.split_first() else { return };
        let whole = run_one(&[input]);
        let parts: Vec<_> = input.chunks(usize::from(*cut) + 1).collect();
        // The bytes decide, not how they are cut.
        assert_eq!(run_one(&parts), whole);
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
