//! Owns what becomes of the one member of the top level that a router looks for. Does not look deeper, and does not
//! choose between two of them: that is where parsers differ, so neither can be trusted.

use std::sync::Arc;

use super::Kind;
use super::string::Text;

/// What is known of the member by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peeked<'a> {
    /// It may still come.
    NotYet,
    /// The top level has ended without it, or is no object.
    Absent,
    /// It is a string, and this is what it says.
    Text(&'a str),
    /// It is something else.
    NotText,
    /// It is a string of more than `TEXT_BYTES_MAX` bytes.
    TooLong,
    /// Its name stands there a second time.
    Twice,
}

#[derive(Debug)]
pub(super) struct Peek {
    name: Arc<str>,
    found: Found,
    /// The member under way is the one.
    is_here: bool,
}

#[derive(Debug)]
enum Found {
    NotYet,
    Absent,
    /// Its name is there, its value not yet.
    Name,
    Text(Box<str>),
    NotText,
    TooLong,
    Twice,
}

impl Peek {
    pub(super) fn new(name: Arc<str>) -> Peek {
        Peek { name, found: Found::NotYet, is_here: false }
    }

    pub(super) fn peeked(&self) -> Peeked<'_> {
        match &self.found {
            Found::NotYet | Found::Name => Peeked::NotYet,
            Found::Absent => Peeked::Absent,
            Found::Text(text) => Peeked::Text(text),
            Found::NotText => Peeked::NotText,
            Found::TooLong => Peeked::TooLong,
            Found::Twice => Peeked::Twice,
        }
    }

    pub(super) fn document_begins(&mut self, kind: Kind) {
        if kind != Kind::Object {
            self.found = Found::Absent;
        }
    }

    pub(super) fn document_ended(&mut self) {
        if let Found::NotYet = self.found {
            self.found = Found::Absent;
        }
    }

    pub(super) fn name_ended(&mut self, name: &Text) {
        self.is_here = false;
        if name.as_str() != Some(&*self.name) {
            return;
        }
        self.found = match self.found {
            Found::NotYet => {
                self.is_here = true;
                Found::Name
            }
            _ => Found::Twice,
        };
    }

    pub(super) fn value_begins(&mut self, kind: Kind) {
        if self.is_here && kind != Kind::Text {
            self.found = Found::NotText;
        }
    }

    pub(super) fn wants_text(&self) -> bool {
        self.is_here
    }

    /// A value's. It may have been kept for another reason.
    pub(super) fn text_ended(&mut self, text: &Text) {
        if self.is_here {
            self.found = text.as_str().map_or(Found::TooLong, |text| Found::Text(text.into()));
        }
    }
}
