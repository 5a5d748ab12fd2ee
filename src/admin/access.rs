//! Owns who may ask the admin endpoint what: everybody whether the process lives and wants traffic; all else who has the token or a
//! certificate, where there is such a thing to have, or who is on this machine, where there is not. Reads a request's `authorization`
//! and nothing more.

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

/// What the client's side of a connection has shown of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certificate {
    /// Nobody is asked for one.
    NotAsked,
    Absent,
    /// It was believed when the connection began, and is not any more.
    Stale,
    Believed,
}

/// Why a request may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Everybody may ask that.
    Everybody,
    Token,
    Certificate,
    /// It comes from this machine.
    Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// 401.
    NoToken,
    NoTokenOrCertificate,
    WrongToken,
    /// 403: there is no token to have.
    NoCertificate,
    StaleCertificate,
    NothingConfigured,
}

impl Access {
    pub fn new(token: Option<&str>, is_local: bool, metrics_public: bool) -> Access {
        Access { token: token.map(|token| digest_of([token.as_bytes()])), is_local, metrics_public }
    }

    pub fn check(&self, what: What, headers: &HeaderMap, certificate: Certificate) -> Result<By, Denied> {
        if what == What::Health || (what == What::Metrics && self.metrics_public) {
            return Ok(By::Everybody);
        }
        // The token first: it says more than a certificate, which browsers show unasked.
        let by_token = self.token.as_ref().map(|token| check_token(token, headers));
        match (by_token, certificate) {
            (Some(Ok(())), _) => Ok(By::Token),
            (_, Certificate::Believed) => Ok(By::Certificate),
            (Some(Err(Denied::NoToken)), Certificate::Absent | Certificate::Stale) => {
                Err(Denied::NoTokenOrCertificate)
            }
            (Some(Err(denied)), _) => Err(denied),
            (None, Certificate::Absent) => Err(Denied::NoCertificate),
            (None, Certificate::Stale) => Err(Denied::StaleCertificate),
            (None, Certificate::NotAsked) if self.is_local => Ok(By::Place),
            (None, Certificate::NotAsked) => Err(Denied::NothingConfigured),
        }
    }
}

fn check_token(token: &[u8; 32], headers: &HeaderMap) -> Result<(), Denied> {
    let mut presented = headers.get_all(AUTHORIZATION).into_iter();
    let (Some(field), None) = (presented.next(), presented.next()) else { return Err(Denied::NoToken) };
    let (scheme, rest) = field.as_bytes().split_at(field.len().min("bearer ".len()));
    if !scheme.eq_ignore_ascii_case(b"bearer ") {
        return Err(Denied::NoToken);
    }
    // Hashes of both, so that neither length nor content shows in the time.
    verify_slices_are_equal(&digest_of([rest.trim_ascii()]), token).map_err(|_| Denied::WrongToken)
}

impl By {
    /// Whether a page of anybody's has it too, once a browser of this machine, or of who has a certificate, shows it.
    pub fn browsers_have(self) -> bool {
        matches!(self, By::Place | By::Certificate)
    }
}

impl Denied {
    /// Whether a token would help.
    pub fn wants_token(self) -> bool {
        matches!(self, Denied::NoToken | Denied::NoTokenOrCertificate | Denied::WrongToken)
    }

    pub fn detail(self) -> &'static str {
        match self {
            Denied::NoToken => "this needs the token of `admin.token_file`, as `authorization: Bearer TOKEN`",
            Denied::NoTokenOrCertificate => {
                "this needs the token of `admin.token_file`, as `authorization: Bearer TOKEN`, or a client certificate that `client_roots` of `admin.tls` have signed"
            }
            Denied::WrongToken => "the token is another one",
            Denied::NoCertificate => {
                "this needs a client certificate that `client_roots` of `admin.tls` have signed"
            }
            Denied::StaleCertificate => {
                "the client certificate of this connection has expired, or is not trusted any more"
            }
            Denied::NothingConfigured => {
                "the admin address is no loopback address: set `admin.token_file`, or `client_roots` of `admin.tls`, or `admin.metrics_public = true` for the metrics alone"
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
        let check = |what: &What| access.check(*what, &headers(fields), Certificate::NotAsked).is_ok();
        ALL.into_iter().filter(check).collect()
    }

    #[test]
    fn without_a_token_all_is_for_loopback_and_little_for_others() {
        assert_eq!(allowed(&Access::new(None, true, false), &[]), ALL);
        assert_eq!(allowed(&Access::new(None, false, false), &[]), [What::Health]);
        assert_eq!(allowed(&Access::new(None, false, true), &[]), [What::Health, What::Metrics]);
        let access = Access::new(None, false, false);
        let denied = access.check(What::Control, &headers(&["Bearer "]), Certificate::NotAsked);
        assert_eq!(denied, Err(Denied::NothingConfigured));
    }

    #[test]
    fn with_a_token_everybody_needs_it() {
        for is_local in [true, false] {
            let access = Access::new(Some("secret"), is_local, false);
            let control = |fields: &[&'static str]| {
                access.check(What::Control, &headers(fields), Certificate::NotAsked)
            };
            for good in ["Bearer secret", "bearer secret", "BEARER   secret "] {
                assert_eq!(allowed(&access, &[good]), ALL, "{good}");
                assert_eq!(control(&[good]), Ok(By::Token));
            }
            for bad in
                [&[][..], &["Bearer"], &["secret"], &["Basic secret"], &["Bearer secret", "Bearer secret"]]
            {
                assert_eq!(control(bad), Err(Denied::NoToken), "{bad:?}");
            }
            for bad in ["Bearer Secret", "Bearer secre", "Bearer secrets", "Bearer  "] {
                assert_eq!(control(&[bad]), Err(Denied::WrongToken), "{bad}");
            }
            assert_eq!(allowed(&access, &[]), [What::Health]);
        }
        assert_eq!(allowed(&Access::new(Some("secret"), false, true), &[]), [What::Health, What::Metrics]);
    }

    /// Where certificates are asked for, being on this machine is nothing, and either of both is enough.
    #[test]
    fn who_may_do_all_by_what_is_shown() {
        use Certificate::{Absent, Believed, NotAsked, Stale};
        const GOOD: &[&str] = &["Bearer secret"];
        const BAD: &[&str] = &["Bearer other"];
        let with_token = Some("secret");
        type Row = (Option<&'static str>, &'static [&'static str], Certificate, Result<By, Denied>);
        let table: &[Row] = &[
            (None, &[], Absent, Err(Denied::NoCertificate)),
            (None, GOOD, Absent, Err(Denied::NoCertificate)),
            (None, &[], Stale, Err(Denied::StaleCertificate)),
            (None, &[], Believed, Ok(By::Certificate)),
            (None, BAD, Believed, Ok(By::Certificate)),
            (with_token, &[], Absent, Err(Denied::NoTokenOrCertificate)),
            (with_token, &[], Stale, Err(Denied::NoTokenOrCertificate)),
            (with_token, BAD, Absent, Err(Denied::WrongToken)),
            (with_token, BAD, Stale, Err(Denied::WrongToken)),
            (with_token, GOOD, Absent, Ok(By::Token)),
            (with_token, GOOD, Stale, Ok(By::Token)),
            (with_token, GOOD, Believed, Ok(By::Token)),
            (with_token, &[], Believed, Ok(By::Certificate)),
            (with_token, BAD, Believed, Ok(By::Certificate)),
            (with_token, &[], NotAsked, Err(Denied::NoToken)),
        ];
        for is_local in [true, false] {
            for (token, fields, certificate, expected) in table {
                let access = |is_public| Access::new(*token, is_local, is_public);
                let check = |what, is_public| access(is_public).check(what, &headers(fields), *certificate);
                for (what, is_public) in
                    [(What::Control, false), (What::Control, true), (What::Metrics, false)]
                {
                    assert_eq!(check(what, is_public), *expected, "{token:?} {fields:?} {certificate:?}");
                }
                for (what, is_public) in [(What::Health, false), (What::Metrics, true)] {
                    assert_eq!(check(what, is_public), Ok(By::Everybody));
                }
            }
        }
    }

    #[test]
    fn a_browser_brings_certificates_and_its_place_but_no_token() {
        let has = [By::Everybody, By::Token, By::Certificate, By::Place].map(By::browsers_have);
        assert_eq!(has, [false, false, true, true]);
    }
}
