//! Signatures: HMAC-SHA256, in the form each receiver asks for.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::words::encoded;

fn hmac(secret: &[u8], message: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes a key of any length");
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

/// Our own webhook: `v1=` and the hexadecimal digits of HMAC-SHA256(secret, timestamp "." body). The timestamp, in Unix
/// seconds, is signed with it, so that an old request cannot be sent again as a new one.
pub(super) fn webhook(secret: &str, timestamp_s: u64, body: &[u8]) -> String {
    let message = [format!("{timestamp_s}.").as_bytes(), body].concat();
    let digits: String = hmac(secret.as_bytes(), &message).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("v1={digits}")
}

/// DingTalk: parameters for the address.
pub(super) fn dingtalk(secret: &str, timestamp_ms: u64) -> String {
    let sign = BASE64.encode(hmac(secret.as_bytes(), format!("{timestamp_ms}\n{secret}").as_bytes()));
    format!("timestamp={timestamp_ms}&sign={}", encoded(&sign))
}

/// Feishu: the field `sign`. The time and the secret are the key, and nothing is the message.
pub(super) fn feishu(secret: &str, timestamp_s: u64) -> String {
    BASE64.encode(hmac(format!("{timestamp_s}\n{secret}").as_bytes(), b""))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values by `openssl dgst -sha256 -hmac` and Python's hmac.
    #[test]
    fn signatures_are_those_of_the_receivers_documents() {
        let body = br#"{"event":"test"}"#;
        assert_eq!(
            webhook("s3cr3t", 1_700_000_000, body),
            "v1=74da46b67cda2b649575b5213478e869b3628c3dc0142f1b9825394c7fc9fa4c"
        );
        assert_eq!(
            dingtalk("SEC123", 1_700_000_000_000),
            "timestamp=1700000000000&sign=lkcPI1uoxBY1gUnCnnPH1Kkru0Hqjo7rFpA3haIVhEQ%3D"
        );
        assert_eq!(feishu("fs-secret", 1_700_000_000), "ognpFOmraex6LA29Ao14dsiNmmjE3YO4x5e/SX8n9Bw=");
    }

    #[test]
    fn another_time_secret_or_body_has_another_signature() {
        let signature = webhook("a", 1, b"x");
        for other in [webhook("b", 1, b"x"), webhook("a", 2, b"x"), webhook("a", 1, b"y")] {
            assert_ne!(signature, other);
        }
    }
}
