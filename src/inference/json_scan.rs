//! Owns whether a body is JSON (RFC 8259), judged as it passes by in pieces of any size: the structure here, strings and
//! numbers below, and what a router wants of it (one member, the shape of an inference request) beside them.
//! Keeps no body, builds no tree, converts no number, and decides no status.

mod automaton;
mod invalid;
mod number;
mod peek;
mod shape;
mod string;

use std::sync::Arc;

pub use invalid::{Invalid, Misshape, Subject, What};
pub use peek::Peeked;

use invalid::Fault;
use number::Number;
use peek::Peek;
use shape::Shape;
use string::{Chars, Text};

/// How deep arrays and objects may nest at the very most: `Scanner` keeps a bit of each.
pub const DEPTH_MAX: u8 = 128;

/// Bytes of a peeked member's value, unescaped, and of its name.
pub const TEXT_BYTES_MAX: usize = 256;

/// What is asked of a body.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Arrays and objects around one another. More than `DEPTH_MAX` is `DEPTH_MAX`; 0 allows neither.
    pub depth_max: u8,
    /// The member of the top level to look for. One of more than `TEXT_BYTES_MAX` bytes is never found.
    pub peek: Option<Arc<str>>,
    /// The body must be an inference request of the Open Inference Protocol (KServe v2).
    pub is_inference: bool,
}

/// Reads one body. Less than 512 bytes, whatever the body's size; the peeked text is its one allocation.
///
/// The same bytes lead to the same answer however they are cut: errors, their offsets and `peeked`.
#[derive(Debug)]
pub struct Scanner {
    state: State,
    /// A bit of each open container, the innermost lowest: 1 is an object.
    open: u128,
    depth: u8,
    depth_max: u8,
    /// Bytes of the pieces before this one.
    offset: u64,
    /// The string under way.
    chars: Chars,
    /// What it says so far, if that matters.
    text: Text,
    /// The number under way has a sign.
    is_negative: bool,
    peek: Option<Peek>,
    shape: Option<Shape>,
}

/// What is under way, or may come next.
///
/// ```text
///               {                   "               "            :
///   Value ────────────► FirstName ─────► String ─────────► Colon ────► Value
///     │ │ [                  │ }           ▲ (a name)
///     │ └─► FirstItem ───┐   │             │ "
///     │       as Value   │ ] │           Name ◄──────┐
///     │                  ▼   ▼                       │ , in an object
///     └► String, ──────► After ──────────────────────┤
///        Number, Literal   │ ▲                       │ , in an array
///                          └─┘ } or ]                └──────► Value
/// ```
///
/// `After` with nothing open is the end of the document.
#[derive(Debug, Clone, Copy)]
enum State {
    Value,
    /// Right behind `[`.
    FirstItem,
    /// Right behind `{`.
    FirstName,
    Name,
    Colon,
    After,
    String {
        is_name: bool,
    },
    Number(Number),
    /// What is still to come of `true`, `false` or `null`.
    Literal(&'static [u8]),
    Failed(Invalid),
}

/// What a value is, as its first byte tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Object,
    Array,
    Text,
    Number,
    Boolean,
    Null,
}

impl Scanner {
    pub fn new(rules: Rules) -> Scanner {
        Scanner {
            state: State::Value,
            open: 0,
            depth: 0,
            depth_max: rules.depth_max.min(DEPTH_MAX),
            offset: 0,
            chars: Chars::PLAIN,
            text: Text::default(),
            is_negative: false,
            peek: rules.peek.map(Peek::new),
            shape: rules.is_inference.then(Shape::default),
        }
    }

    /// Takes the next piece of the body. An error is final, and told again whatever comes after it.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), Invalid> {
        if let State::Failed(invalid) = self.state {
            return Err(invalid);
        }
        let mut taken = 0;
        // Every step takes a byte, or ends or begins a number without one.
        while taken < piece.len() {
            match self.step(&piece[taken..]) {
                Ok(step) => taken += step,
                Err(fault) => return Err(self.fail(fault.what, taken + fault.at)),
            }
        }
        self.offset += piece.len() as u64;
        Ok(())
    }

    /// The body is over. The document must be.
    pub fn finish(&mut self) -> Result<(), Invalid> {
        match self.state {
            State::Failed(invalid) => Err(invalid),
            State::After if self.depth == 0 => Ok(()),
            State::Number(number) if self.depth == 0 && number.is_whole() => {
                self.state = State::After;
                Ok(())
            }
            State::Value if self.depth == 0 => Err(self.fail(What::Syntax("there is no value"), 0)),
            _ => Err(self.fail(What::Syntax("it ends in the middle"), 0)),
        }
    }

    /// What is known by now of the member that `Rules::peek` names; without one it is absent. `Text` and the like mean
    /// *once so far*: unless `finish` went well, another may follow and make it `Twice`.
    pub fn peeked(&self) -> Peeked<'_> {
        self.peek.as_ref().map_or(Peeked::Absent, Peek::peeked)
    }

    #[cold]
    fn fail(&mut self, what: What, at: usize) -> Invalid {
        let invalid = Invalid { what, at: self.offset + at as u64 };
        self.state = State::Failed(invalid);
        invalid
    }

    /// One token, or as much of it as is there; how many bytes that was.
    fn step(&mut self, rest: &[u8]) -> Result<usize, Fault> {
        match self.state {
            State::String { is_name } => self.string(is_name, rest),
            State::Number(number) => self.number(number, rest),
            State::Literal(expected) => self.literal(expected, rest),
            _ => {
                let blanks = blank_run(rest);
                let Some(&byte) = rest.get(blanks) else { return Ok(blanks) };
                match self.structure(byte) {
                    Ok(taken) => Ok(blanks + taken),
                    Err(what) => Err(Fault { what, at: blanks }),
                }
            }
        }
    }

    fn structure(&mut self, byte: u8) -> Result<usize, What> {
        self.state = match (self.state, byte) {
            (State::FirstName, b'}') | (State::FirstItem, b']') => return self.close(),
            (State::After, b'}') if self.is_in_object() => return self.close(),
            (State::After, b']') if self.is_in_array() => return self.close(),
            (State::Value | State::FirstItem, _) => return self.value(byte),
            (State::FirstName | State::Name, b'"') => self.begin_string(true),
            (State::Colon, b':') => State::Value,
            (State::After, b',') if self.is_in_object() => State::Name,
            (State::After, b',') if self.is_in_array() => State::Value,
            _ => return Err(What::Syntax(self.missing())),
        };
        Ok(1)
    }

    /// A value begins. Its first byte is taken, except a number's.
    fn value(&mut self, byte: u8) -> Result<usize, What> {
        let kind = match byte {
            b'{' => Kind::Object,
            b'[' => Kind::Array,
            b'"' => Kind::Text,
            b'-' | b'0'..=b'9' => Kind::Number,
            b't' | b'f' => Kind::Boolean,
            b'n' => Kind::Null,
            b'N' | b'I' => return Err(What::Syntax(number::NO_NUMBER)),
            _ => return Err(What::Syntax("a value is missing")),
        };
        self.note_value(kind)?;
        self.state = match byte {
            b'{' | b'[' => self.open(kind)?,
            b'"' => self.begin_string(false),
            b't' => State::Literal(b"rue"),
            b'f' => State::Literal(b"alse"),
            b'n' => State::Literal(b"ull"),
            _ => {
                self.is_negative = byte == b'-';
                self.state = State::Number(Number::default());
                return Ok(0);
            }
        };
        Ok(1)
    }

    fn open(&mut self, kind: Kind) -> Result<State, What> {
        if self.depth == self.depth_max {
            return Err(What::TooDeep);
        }
        self.depth += 1;
        self.open = self.open << 1 | u128::from(kind == Kind::Object);
        Ok(if kind == Kind::Object { State::FirstName } else { State::FirstItem })
    }

    fn close(&mut self) -> Result<usize, What> {
        let closed = self.depth;
        self.depth -= 1;
        self.open >>= 1;
        self.state = State::After;
        if let (0, Some(peek)) = (self.depth, &mut self.peek) {
            peek.document_ended();
        }
        if let Some(shape) = self.shape.as_mut().filter(|shape| shape.depth() == closed) {
            shape.container_ended()?;
        }
        Ok(1)
    }

    fn begin_string(&mut self, is_name: bool) -> State {
        let is_kept = match is_name {
            true => self.is_peeking() || self.is_shaping(),
            false => {
                self.is_peeking() && self.peek.as_ref().is_some_and(Peek::wants_text)
                    || self.is_shaping() && self.shape.as_ref().is_some_and(Shape::wants_text)
            }
        };
        self.chars = Chars::PLAIN;
        self.text.begin(is_kept);
        State::String { is_name }
    }

    fn string(&mut self, is_name: bool, rest: &[u8]) -> Result<usize, Fault> {
        let (taken, is_over) = self.chars.advance(rest, &mut self.text)?;
        if is_over {
            self.state = if is_name { State::Colon } else { State::After };
            if self.text.is_kept() {
                self.note_text(is_name).map_err(|what| Fault { what, at: taken - 1 })?;
            }
        }
        Ok(taken)
    }

    fn number(&mut self, number: Number, rest: &[u8]) -> Result<usize, Fault> {
        let is_list = self.is_in_array() && !self.is_shaping();
        let (taken, number) = number.advance(rest, is_list);
        self.state = match rest.get(taken) {
            _ if number.is_between() => State::Value,
            None => State::Number(number),
            Some(_) if number.is_whole() => {
                self.note_number(number).map_err(|what| Fault { what, at: taken })?;
                State::After
            }
            Some(b'I') => return Err(Fault { what: What::Syntax(number::NO_NUMBER), at: taken }),
            Some(_) => return Err(Fault { what: What::Syntax("a digit is missing"), at: taken }),
        };
        Ok(taken)
    }

    fn literal(&mut self, expected: &'static [u8], rest: &[u8]) -> Result<usize, Fault> {
        let alike = expected.iter().zip(rest).take_while(|(expected, byte)| expected == byte).count();
        let left = &expected[alike..];
        if !left.is_empty() && alike < rest.len() {
            return Err(Fault { what: What::Syntax("neither true, false nor null"), at: alike });
        }
        self.state = if left.is_empty() { State::After } else { State::Literal(left) };
        Ok(alike)
    }

    fn note_value(&mut self, kind: Kind) -> Result<(), What> {
        if let Some(peek) = &mut self.peek {
            match self.depth {
                0 => peek.document_begins(kind),
                1 => peek.value_begins(kind),
                _ => {}
            }
        }
        match &mut self.shape {
            Some(shape) if shape.depth() == self.depth => Ok(shape.value_begins(kind)?),
            _ => Ok(()),
        }
    }

    fn note_text(&mut self, is_name: bool) -> Result<(), What> {
        if let (1, Some(peek)) = (self.depth, &mut self.peek) {
            match is_name {
                true => peek.name_ended(&self.text),
                false => peek.text_ended(&self.text),
            }
        }
        match &mut self.shape {
            Some(shape) if shape.depth() == self.depth => match is_name {
                true => shape.name_ended(&self.text),
                false => shape.text_ended(&self.text)?,
            },
            _ => {}
        }
        Ok(())
    }

    fn note_number(&mut self, number: Number) -> Result<(), What> {
        match &self.shape {
            Some(shape) if shape.depth() == self.depth => {
                Ok(shape.number_ended(number.is_integer() && !self.is_negative)?)
            }
            _ => Ok(()),
        }
    }

    fn is_in_object(&self) -> bool {
        self.depth > 0 && self.open & 1 == 1
    }

    fn is_in_array(&self) -> bool {
        self.depth > 0 && self.open & 1 == 0
    }

    fn is_peeking(&self) -> bool {
        self.depth == 1 && self.peek.is_some()
    }

    fn is_shaping(&self) -> bool {
        self.shape.as_ref().is_some_and(|shape| shape.depth() == self.depth)
    }

    fn missing(&self) -> &'static str {
        match self.state {
            State::FirstName | State::Name => "a member's name is missing",
            State::Colon => "a colon is missing",
            _ if self.depth == 0 => "something follows the value",
            _ => "a comma is missing",
        }
    }
}

/// How many bytes from the start are white space. Eight at a time: indented documents are mostly that.
fn blank_run(rest: &[u8]) -> usize {
    let mut at = 0;
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = rest.get(at) {
        at += 1;
        while rest[at..].first_chunk() == Some(b"        ") {
            at += 8;
        }
    }
    at
}

#[cfg(test)]
#[path = "json_scan_tests.rs"]
mod tests;
