//! Owns what is said of a body that is refused, and where. Whose fault it is goes without saying: the sender's, and to
//! send it again is no use. Which status that becomes is the caller's.

use std::fmt;

/// Why a body is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invalid {
    pub what: What,
    /// Bytes of the body before the one that gave it away; all of them if it ended too early.
    pub at: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Not JSON.
    Syntax(&'static str),
    /// More than `Rules::depth_max` arrays and objects around one another.
    TooDeep,
    /// JSON as far as it was read, but no inference request.
    Shape(Misshape),
}

/// What is wrong with an inference request: `inputs[2]` "has no datatype".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Misshape {
    pub subject: Subject,
    pub complaint: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    Request,
    Input(u64),
    Output(u64),
}

/// A failure at this byte of the slice in hand.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) what: What,
    pub(super) at: usize,
}

impl From<Misshape> for What {
    fn from(misshape: Misshape) -> What {
        What::Shape(misshape)
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at;
        match self.what {
            What::Syntax(reason) => write!(formatter, "not JSON at byte {at}: {reason}"),
            What::TooDeep => write!(formatter, "nested too deep at byte {at}"),
            What::Shape(misshape) => write!(formatter, "not an inference request at byte {at}: {misshape}"),
        }
    }
}

impl fmt::Display for Misshape {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let complaint = self.complaint;
        match self.subject {
            Subject::Request => write!(formatter, "it {complaint}"),
            Subject::Input(index) => write!(formatter, "inputs[{index}] {complaint}"),
            Subject::Output(index) => write!(formatter, "outputs[{index}] {complaint}"),
        }
    }
}

impl std::error::Error for Invalid {}
