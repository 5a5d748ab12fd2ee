//! Owns the keys of TLS towards clients, of listeners and of the admin endpoint; those towards endpoints are `service`'s.

use crate::config::schema::{Key, key};

pub const LISTENER_KEYS: &[Key] = &[
    CERTIFICATE,
    KEY,
    OCSP,
    MIN_VERSION,
    key(
        "client_roots",
        "path",
        "none",
        "PEM: the certificates of those who sign the clients'. Without it, clients are not asked for one.",
    ),
    key(
        "client_certificates",
        "`\"required\"`, `\"optional\"`",
        "\"required\"",
        "With `client_roots`: whether a client without a certificate is let in. One that is not trusted never is.",
    ),
];

pub const ADMIN_KEYS: &[Key] = &[
    CERTIFICATE,
    KEY,
    OCSP,
    MIN_VERSION,
    key(
        "client_roots",
        "path",
        "none",
        "PEM: the certificates of those who sign the clients'. Who shows such a one may ask everything, as with the token, and who has neither no more than `/healthz` and `/readyz`.",
    ),
    key(
        "client_certificates",
        "`\"required\"`, `\"optional\"`",
        "\"optional\"",
        "With `client_roots`: whether a client without a certificate is let in, for health or with the token. One that is not trusted never is.",
    ),
];

pub const CERTIFICATES_KEYS: &[Key] = &[
    key("certificate", "path", "required", "As above."),
    key("key", "path", "required", "As above."),
    key("ocsp", "path", "none", "As above."),
];

const CERTIFICATE: Key = key(
    "certificate",
    "path",
    "required",
    "PEM: the server's certificate, then those that lead to its root. Whom nothing in `certificates` is meant for gets this one.",
);
const KEY: Key =
    key("key", "path", "required", "PEM: its private key (RSA, ECDSA or Ed25519; PKCS#8, PKCS#1 or SEC1).");
const OCSP: Key = key("ocsp", "path", "none", "DER: an OCSP response that is stapled to the certificate.");
const MIN_VERSION: Key =
    key("min_version", "`\"1.2\"`, `\"1.3\"`", "\"1.2\"", "The oldest version that is spoken.");
