//! Owns what is said of a message that cannot be taken: what is wrong, at which member, and at which byte. Always the fault of who wrote the
//! message, and to send it again is no use. Which status that becomes is the caller's.

use std::borrow::Cow;
use std::fmt;

/// Why a message is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub kind: Kind,
    /// `inputs[0].data`. Empty: the message itself.
    pub path: String,
    /// Bytes of the body before the one that gave it away. `None`: it is not about a single place.
    pub at: Option<usize>,
    pub what: Cow<'static, str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Not the format that it should be.
    Malformed,
    /// The format, but not what the protocol says.
    Invalid,
    /// Over one of the `Limits`.
    TooLarge,
}

impl Refused {
    #[cold]
    pub(super) fn malformed(at: usize, what: impl Into<Cow<'static, str>>) -> Refused {
        Refused { kind: Kind::Malformed, path: String::new(), at: Some(at), what: what.into() }
    }

    #[cold]
    pub(super) fn invalid(what: impl Into<Cow<'static, str>>) -> Refused {
        Refused { kind: Kind::Invalid, path: String::new(), at: None, what: what.into() }
    }

    #[cold]
    pub(super) fn too_large(what: impl Into<Cow<'static, str>>) -> Refused {
        Refused { kind: Kind::TooLarge, path: String::new(), at: None, what: what.into() }
    }

    /// Unless a place is known already, which is nearer.
    pub(super) fn at(mut self, at: usize) -> Refused {
        self.at = self.at.or(Some(at));
        self
    }

    /// It is about this member of the message at hand: `within("[2]")`, then `within("inputs")`.
    pub(super) fn within(mut self, member: &str) -> Refused {
        let is_joined = self.path.is_empty() || self.path.starts_with('[');
        self.path = format!("{member}{}{}", if is_joined { "" } else { "." }, self.path);
        self
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.is_empty() {
            true => formatter.write_str(&self.what)?,
            false => write!(formatter, "{}: {}", self.path, self.what)?,
        }
        match self.at {
            Some(at) => write!(formatter, " (at byte {at})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refused {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_spelled_as_in_code() {
        let refused = Refused::invalid("is wrong").within("data").within("[2]").within("inputs").at(7);
        assert_eq!(refused.at(9).to_string(), "inputs[2].data: is wrong (at byte 7)");
        assert_eq!(Refused::malformed(3, "not JSON").to_string(), "not JSON (at byte 3)");
    }
}
