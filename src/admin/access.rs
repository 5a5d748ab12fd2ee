//! Owns who may ask the admin endpoint what: everybody whether the process lives and wants traffic; on loopback everything, unless there
//! is a token; elsewhere nothing else without one. Reads a request's `authorization` and nothing more.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use hyper::header::{AUTHORIZATION, HeaderMap};

use crate::policy::jwt::digest_of;

/// What the endpoint was configured with, and where it listens.
#[derive(Debug, Clone)]
pub struct Access {
    token: Option<[u8; 32]>,
    is_local: bool,
    metrics_public: bool,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Whether it lives, and wants traffic.
    Health,
    Metrics,
    /// All else.
    Control,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// 401.
    NoToken,
    WrongToken,
    /// 403: there is none to have.
    NoTokenConfigured,
}

impl Access {
    pub fn new(token: Option<&str>, is_local: bool, metrics_public: bool) -> Access {
        Access { token: token.map(|token| digest_of([token.as_bytes()])), is_local, metrics_public }
    }

    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    pub fn check(&self, what: What, headers: &HeaderMap) -> Result<(), Denied> {
        if what == What::Health || (what == What::Metrics && self.metrics_public) {
            return Ok(());
        }
        let Some(token) = &self.token else {
            return if self.is_local { Ok(()) } else { Err(Denied::NoTokenConfigured) };
        };
        let mut presented = headers.get_all(AUTHORIZATION).into_iter();
        let (Some(field), None) = (presented.next(), presented.next()) else { return Err(Denied::NoToken) };
        let (scheme, rest) = field.as_bytes().split_at(field.len().min("bearer ".len()));
        if !scheme.eq_ignore_ascii_case(b"bearer ") {
            return Err(Denied::NoToken);
        }
        // Hashes of both, so that neither length nor content shows in the time.
        verify_slices_are_equal(&digest_of([rest.trim_ascii()]), token).map_err(|_| Denied::WrongToken)
    }
}

impl Denied {
    pub fn detail(self) -> &'static str {
        match self {
            Denied::NoToken => "this needs the token of `admin.token_file`, as `authorization: Bearer TOKEN`",
            Denied::WrongToken => "the token is another one",
            Denied::NoTokenConfigured => {
                "the admin address is no loopback address: set `admin.token_file`, or `admin.metrics_public = true` for the metrics alone"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [What; 3] = [What::Health, What::Metrics, What::Control];

    fn headers(fields: &[&'static str]) -> HeaderMap {
        fields.iter().map(|field| (AUTHORIZATION, field.parse().unwrap())).collect()
    }

    fn allowed(access: &Access, fields: &[&'static str]) -> Vec<What> {
        ALL.into_iter().filter(|what| access.check(*what, &headers(fields)).is_ok()).collect()
    }

    #[test]
    fn without_a_token_all_is_for_loopback_and_little_for_others() {
        assert_eq!(allowed(&Access::new(None, true, false), &[]), ALL);
        assert_eq!(allowed(&Access::new(None, false, false), &[]), [What::Health]);
        assert_eq!(allowed(&Access::new(None, false, true), &[]), [What::Health, What::Metrics]);
        let denied = Access::new(None, false, false).check(What::Control, &headers(&["Bearer "]));
        assert_eq!(denied, Err(Denied::NoTokenConfigured));
    }

    #[test]
    fn with_a_token_everybody_needs_it() {
        for is_local in [true, false] {
            let access = Access::new(Some("secret"), is_local, false);
            for good in ["Bearer secret", "bearer secret", "BEARER   secret "] {
                assert_eq!(allowed(&access, &[good]), ALL, "{good}");
            }
            for bad in
                [&[][..], &["Bearer"], &["secret"], &["Basic secret"], &["Bearer secret", "Bearer secret"]]
            {
                assert_eq!(access.check(What::Control, &headers(bad)), Err(Denied::NoToken), "{bad:?}");
            }
            for bad in ["Bearer Secret", "Bearer secre", "Bearer secrets", "Bearer  "] {
                assert_eq!(access.check(What::Control, &headers(&[bad])), Err(Denied::WrongToken), "{bad}");
            }
            assert_eq!(allowed(&access, &[]), [What::Health]);
        }
        assert_eq!(allowed(&Access::new(Some("secret"), false, true), &[]), [What::Health, What::Metrics]);
    }
}
