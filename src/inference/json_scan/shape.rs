//! Owns whether a document has the shape of an inference request of the Open Inference Protocol (KServe v2, with the
//! binary and shared memory extensions). Sees only the few containers that the protocol names; does not compare the
//! data with its shape and datatype, and refuses no member that it does not know.

use super::Kind;
use super::invalid::{Misshape, Subject};
use super::string::Text;

const DATATYPES: [&str; 14] = [
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64",
    "BF16", "BYTES",
];

/// How far the request has come. Members that stand twice are each held to the rules.
#[derive(Debug)]
pub(super) struct Shape {
    place: Place,
    /// Of the innermost object: the member under way.
    member: Member,
    /// Inputs or outputs before the one under way.
    index: u64,
    has_inputs: bool,
    /// Of the input or output under way.
    has: Has,
}

/// The container under way. Those that the protocol does not name are passed over, with all that they hold.
///
/// ```text
///   Document ─► Request ─┬► Inputs ─► Input ─┬► Dimensions
///                        └► Outputs ► Output └► Parameters
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Document,
    Request,
    Inputs,
    Input,
    Dimensions,
    Parameters,
    Outputs,
    Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Member {
    Inputs,
    Outputs,
    Id,
    Parameters,
    Name,
    Shape,
    Datatype,
    Data,
    /// A parameter that says where else the data is.
    DataElsewhere,
    Unknown,
}

#[derive(Debug, Clone, Copy, Default)]
struct Has {
    name: bool,
    shape: bool,
    datatype: bool,
    data: bool,
}

impl Default for Shape {
    fn default() -> Self {
        let (place, member) = (Place::Document, Member::Unknown);
        Shape { place, member, index: 0, has_inputs: false, has: Has::default() }
    }
}

impl Shape {
    /// Containers around what is looked at. Only what happens at this depth is told.
    pub(super) fn depth(&self) -> u8 {
        match self.place {
            Place::Document => 0,
            Place::Request => 1,
            Place::Inputs | Place::Outputs => 2,
            Place::Input | Place::Output => 3,
            Place::Dimensions | Place::Parameters => 4,
        }
    }

    pub(super) fn name_ended(&mut self, name: &Text) {
        self.member = Member::of(name);
        match (self.place, self.member) {
            (Place::Request, Member::Inputs) => self.has_inputs = true,
            (Place::Input | Place::Output, Member::Name) => self.has.name = true,
            (Place::Input, Member::Shape) => self.has.shape = true,
            (Place::Input, Member::Datatype) => self.has.datatype = true,
            (Place::Input, Member::Data) | (Place::Parameters, Member::DataElsewhere) => self.has.data = true,
            _ => {}
        }
    }

    pub(super) fn value_begins(&mut self, kind: Kind) -> Result<(), Misshape> {
        let (is_right, inner, complaint) = match (self.place, self.member) {
            (Place::Document, _) => (kind == Kind::Object, Some(Place::Request), "is not an object"),
            // As clients write what they leave out.
            (Place::Request, Member::Outputs | Member::Parameters)
            | (Place::Input | Place::Output, Member::Parameters)
                if kind == Kind::Null =>
            {
                return Ok(());
            }
            (Place::Request, Member::Id) => {
                (matches!(kind, Kind::Text | Kind::Null), None, "has an id that is not a string")
            }
            (Place::Request, Member::Inputs) => {
                (kind == Kind::Array, Some(Place::Inputs), "has inputs that are not an array")
            }
            (Place::Request, Member::Outputs) => {
                (kind == Kind::Array, Some(Place::Outputs), "has outputs that are not an array")
            }
            (Place::Inputs, _) => (kind == Kind::Object, Some(Place::Input), "is not an object"),
            (Place::Outputs, _) => (kind == Kind::Object, Some(Place::Output), "is not an object"),
            (Place::Input | Place::Output, Member::Name) => {
                (kind == Kind::Text, None, "has a name that is not a string")
            }
            (Place::Input, Member::Datatype) => {
                (kind == Kind::Text, None, "has a datatype that is not a string")
            }
            (Place::Input, Member::Shape) => (kind == Kind::Array, Some(Place::Dimensions), NO_SHAPE),
            (Place::Dimensions, _) => (kind == Kind::Number, None, NO_SHAPE),
            (Place::Input, Member::Parameters) => {
                (kind == Kind::Object, Some(Place::Parameters), NO_PARAMETERS)
            }
            (Place::Request | Place::Output, Member::Parameters) => {
                (kind == Kind::Object, None, NO_PARAMETERS)
            }
            _ => return Ok(()),
        };
        if !is_right {
            return Err(self.misshape(complaint));
        }
        if let Some(inner) = inner {
            self.enter(inner);
        }
        Ok(())
    }

    pub(super) fn wants_text(&self) -> bool {
        self.place == Place::Input && self.member == Member::Datatype
    }

    /// A value's. It may have been kept for another reason.
    pub(super) fn text_ended(&self, text: &Text) -> Result<(), Misshape> {
        let is_known = || text.as_str().is_some_and(|text| DATATYPES.contains(&text));
        match self.wants_text() && !is_known() {
            true => Err(self.misshape("has an unknown datatype")),
            false => Ok(()),
        }
    }

    /// `is_natural`: neither a sign nor a fraction nor an exponent.
    pub(super) fn number_ended(&self, is_natural: bool) -> Result<(), Misshape> {
        match self.place == Place::Dimensions && !is_natural {
            true => Err(self.misshape(NO_SHAPE)),
            false => Ok(()),
        }
    }

    pub(super) fn container_ended(&mut self) -> Result<(), Misshape> {
        if let Some(complaint) = self.lack() {
            return Err(self.misshape(complaint));
        }
        self.place = match self.place {
            Place::Input => Place::Inputs,
            Place::Output => Place::Outputs,
            Place::Dimensions | Place::Parameters => Place::Input,
            Place::Inputs | Place::Outputs => Place::Request,
            Place::Request | Place::Document => Place::Document,
        };
        if let Place::Inputs | Place::Outputs = self.place {
            self.index += 1;
        }
        Ok(())
    }

    fn enter(&mut self, inner: Place) {
        match inner {
            Place::Inputs | Place::Outputs => self.index = 0,
            Place::Input | Place::Output => self.has = Has::default(),
            _ => {}
        }
        self.place = inner;
    }

    /// What the container that ends should have held.
    fn lack(&self) -> Option<&'static str> {
        match self.place {
            Place::Request if !self.has_inputs => Some("has no inputs"),
            Place::Inputs if self.index == 0 => Some(EMPTY),
            Place::Input | Place::Output if !self.has.name => Some("has no name"),
            Place::Input if !self.has.shape => Some("has no shape"),
            Place::Input if !self.has.datatype => Some("has no datatype"),
            Place::Input if !self.has.data => Some("has no data"),
            _ => None,
        }
    }

    #[cold]
    fn misshape(&self, complaint: &'static str) -> Misshape {
        let subject = match (self.place, complaint) {
            (Place::Inputs, EMPTY) | (Place::Document | Place::Request, _) => Subject::Request,
            (Place::Outputs | Place::Output, _) => Subject::Output(self.index),
            _ => Subject::Input(self.index),
        };
        Misshape { subject, complaint }
    }
}

const EMPTY: &str = "has inputs that are empty";
const NO_SHAPE: &str = "has a shape that is not an array of non-negative integers";
const NO_PARAMETERS: &str = "has parameters that are not an object";

impl Member {
    fn of(name: &Text) -> Member {
        match name.as_str().unwrap_or_default() {
            "inputs" => Member::Inputs,
            "outputs" => Member::Outputs,
            "id" => Member::Id,
            "parameters" => Member::Parameters,
            "name" => Member::Name,
            "shape" => Member::Shape,
            "datatype" => Member::Datatype,
            "data" => Member::Data,
            "binary_data_size" | "shared_memory_region" => Member::DataElsewhere,
            _ => Member::Unknown,
        }
    }
}

#[cfg(test)]
#[path = "shape_tests.rs"]
mod tests;
