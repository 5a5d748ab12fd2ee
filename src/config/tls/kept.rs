//! Owns what outlives reloads: things found again by a digest of all that they were made of, as long as a configuration
//! holds them. A session is resumed, and a pooled connection used again, only under what it began with.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;

/// SHA-256 over parts, each with its length before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest(Vec<u8>);

impl Digest {
    pub fn of<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> Digest {
        let mut all = Vec::new();
        for part in parts {
            all.extend_from_slice(&(part.len() as u64).to_be_bytes());
            all.extend_from_slice(part);
        }
        let suite = TLS13_AES_128_GCM_SHA256.tls13();
        Digest(suite.map_or(all.clone(), |suite| suite.common.hash_provider.hash(&all).as_ref().to_vec()))
    }
}

/// All that makes trusting `roots` what it is.
pub fn trusted(roots: &RootCertStore) -> impl Iterator<Item = &[u8]> {
    roots.roots.iter().flat_map(|root| {
        let constraints = root.name_constraints.as_ref().map_or(&[][..], |constraints| constraints);
        [&*root.subject, &*root.subject_public_key_info, constraints]
    })
}

pub struct Kept<T: ?Sized>(Mutex<Vec<(Digest, Weak<T>)>>);

impl<T: ?Sized> Kept<T> {
    pub const fn new() -> Kept<T> {
        Kept(Mutex::new(Vec::new()))
    }

    /// The one with this digest, or what `make` makes.
    pub fn get_or_make(&self, digest: &Digest, make: impl FnOnce() -> Option<Arc<T>>) -> Option<Arc<T>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(_, weak)| weak.strong_count() > 0);
        let found = kept.iter().find(|(of, _)| of == digest).and_then(|(_, weak)| weak.upgrade());
        found.or_else(|| {
            let made = make()?;
            kept.push((digest.clone(), Arc::downgrade(&made)));
            Some(made)
        })
    }
}
