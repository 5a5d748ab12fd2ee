//! No token is believed whose signature is not the key's over exactly what is said; what is read of JSON is what another parser
//! reads; and no key file does more than be refused.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tidegate::policy::claims::unique;
use tidegate::policy::jwt::{Key, KeySet, Keys, Verifier};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const NOW: u64 = 1_800_000_000;

pub fn jwt(data: &[u8]) {
    let key = || Key::secret(SECRET, None).unwrap();
    let verifier = Verifier {
        keys: Keys::Known(KeySet::one(key(), SECRET)),
        issuers: Vec::new(),
        audiences: Vec::new(),
        leeway: 0,
        required: Vec::new(),
    };
    if let Ok(claims) = verifier.keys.with(|keys| verifier.verify_by(keys.expect("known"), data, NOW)) {
        let text = std::str::from_utf8(data).expect("letters and dots");
        let (signed, signature) = text.rsplit_once('.').expect("three parts");
        let (head, payload) = signed.split_once('.').expect("three parts");
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).expect("base64url");
        assert!(key().has_signed(signed.as_bytes(), &decode(signature)));
        let head: serde_json::Value = serde_json::from_slice(&decode(head)).expect("JSON");
        assert_eq!(head["alg"], "HS256");
        let said: serde_json::Value = serde_json::from_slice(&decode(payload)).expect("JSON");
        assert!(said.get("exp").is_none_or(|exp| exp.as_f64().is_some_and(|exp| exp as u64 > NOW)));
        for (name, value) in said.as_object().expect("an object") {
            assert_eq!(claims.find(name), Some(value).filter(|value| !value.is_null()));
        }
    }
    if let Ok(value) = unique(data) {
        assert_eq!(serde_json::from_slice::<serde_json::Value>(data).expect("JSON"), value);
    }
    let _ = KeySet::jwks(data, None);
    let _ = Key::pem(data, None);
}
