//! What a service's model takes and gives, compiled from its config, and the way from what a client sends to what the model is asked and
//! back. Owns the order of that way; its stations are `intake` (a client's body becomes an inference request), `outgoing` (the request
//! becomes what the model server reads), `incoming` (what it answers) and `answer` (what the client gets). Pure: bytes in, bytes out.

pub mod answer;
mod classes;
mod elements;
pub mod incoming;
pub mod intake;
mod multipart;
pub mod outgoing;

use std::fmt;
use std::sync::Arc;

use super::image;
use super::oip::declared::{self, Declared};
use super::oip::limits::Limits;
use super::oip::model::ModelMetadata;
use super::oip::refused::{self, Refused};
use super::tensor::Datatype;
use crate::policy::memory::NoRoom;

/// `[service.NAME.model]`.
#[derive(Debug)]
pub struct Model {
    pub speaks: Speaks,
    /// How the server calls it. Empty where it has no name.
    pub name: Box<str>,
    /// `None`: the server chooses.
    pub version: Option<Box<str>>,
    pub inputs: Vec<Input>,
    pub outputs: Vec<Output>,
    pub images: image::Limits,
    /// Of all of the service's requests that are being converted.
    pub memory_bytes_max: u64,
}

/// What the model server reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Speaks {
    /// The Open Inference Protocol's gRPC.
    Grpc,
    /// Its REST.
    Rest,
    /// Its REST with tensors in binary.
    Binary,
    /// `TensorRequest` of proto/tensor.proto, by POST to this path.
    Tensor { path: Box<str> },
}

#[derive(Debug)]
pub struct Input {
    pub name: Box<str>,
    pub datatype: Datatype,
    /// Without the dimension of the batch. -1: any.
    pub shape: Vec<i64>,
    /// The model takes a dimension for the batch, in front of the others.
    pub is_batched: bool,
    /// Where it stands in a JSON body that is no inference request (RFC 6901).
    pub pointer: Option<Box<str>>,
    pub form: Form,
}

/// What an input is made of.
#[derive(Debug)]
pub enum Form {
    /// Of a value in JSON, or of the body as it is.
    Value,
    /// Of images, decoded.
    Image(Box<image::Plan>),
    /// Of images, as they are once their heads have been judged.
    Encoded,
}

#[derive(Debug)]
pub struct Output {
    pub name: Box<str>,
    /// Of a server that does not say it.
    pub datatype: Option<Datatype>,
    /// How many of the best classes clients are told, if its elements are scores of classes.
    pub classes: Option<Classes>,
}

#[derive(Debug)]
pub struct Classes {
    pub top: usize,
    /// The scores are made to sum up to 1.
    pub is_softmax: bool,
    /// By number; may be fewer than there are classes.
    pub labels: Arc<[Box<str>]>,
}

impl Model {
    /// The inputs that are made of images.
    pub fn image_inputs(&self) -> impl Iterator<Item = &Input> {
        self.inputs.iter().filter(|input| input.takes_images())
    }

    /// Whether some input stands in JSON of the client's own making.
    pub fn reads_members(&self) -> bool {
        self.inputs.iter().any(|input| input.pointer.is_some())
    }

    pub fn declared(&self) -> Vec<Declared> {
        self.inputs.iter().map(Input::declared).collect()
    }

    /// Whether there is something to compare with what the server says.
    pub fn is_declared(&self) -> bool {
        let is_asked = !matches!(self.speaks, Speaks::Tensor { .. });
        is_asked && !(self.inputs.is_empty() && self.outputs.is_empty())
    }

    /// Where the live model is not as declared, a sentence each.
    pub fn differences(&self, live: &ModelMetadata) -> Vec<String> {
        let mut found = match self.inputs.is_empty() {
            true => Vec::new(),
            false => declared::differences(&self.declared(), live),
        };
        for output in &self.outputs {
            match live.outputs.iter().find(|known| *known.name == *output.name) {
                None => found.push(format!("the model has no output {:?}", output.name)),
                Some(known) => {
                    if let Some(datatype) =
                        output.datatype.filter(|datatype| datatype.name() != known.datatype)
                    {
                        let (name, declared) = (&output.name, datatype.name());
                        found.push(format!(
                            "output {name:?} is declared as {declared}, and is {}",
                            known.datatype
                        ));
                    }
                }
            }
        }
        found
    }

    /// Whether this is its name with the server, and a version that it may have. One that has no name answers to any.
    pub fn is_called(&self, name: &str, version: Option<&str>) -> bool {
        self.name.is_empty()
            || (*self.name == *name && (version.is_none() || self.version.as_deref() == version))
    }
}

impl Input {
    pub fn takes_images(&self) -> bool {
        !matches!(self.form, Form::Value)
    }

    /// As it is in a request.
    pub fn declared(&self) -> Declared {
        let batch = self.is_batched.then_some(-1);
        Declared {
            name: self.name.to_string(),
            datatype: self.datatype,
            shape: batch.into_iter().chain(self.shape.iter().copied()).collect(),
        }
    }
}

/// What a message may hold whose body has so many bytes: no element of a tensor takes more than eight here, and fewer than two in JSON.
pub fn limits(body_bytes: usize) -> Limits {
    Limits { data_bytes: data_bytes_max(body_bytes), ..Limits::default() }
}

/// Of the tensors of a body.
pub fn data_bytes_max(body_bytes: usize) -> u64 {
    4 * body_bytes as u64 + 64
}

/// Why a request cannot be made. To send the same again is no use, unless there was no room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// 400: what came is not what the model takes.
    Invalid(String),
    /// 413.
    TooLarge(String),
    /// 415: nothing can be made of a body of this type.
    Type(String),
    /// 422.
    ImageTooLarge(String),
    NoRoom(NoRoom),
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::Invalid(what) | Wrong::TooLarge(what) | Wrong::Type(what) | Wrong::ImageTooLarge(what) => {
                f.write_str(what)
            }
            Wrong::NoRoom(NoRoom::Now) => f.write_str("other requests have the memory for it"),
            Wrong::NoRoom(NoRoom::Ever) => f.write_str("it takes more memory than the service has for all"),
        }
    }
}

impl std::error::Error for Wrong {}

impl From<Refused> for Wrong {
    fn from(refused: Refused) -> Wrong {
        match refused.kind {
            refused::Kind::TooLarge => Wrong::TooLarge(refused.to_string()),
            refused::Kind::Malformed | refused::Kind::Invalid => Wrong::Invalid(refused.to_string()),
        }
    }
}

impl From<image::Wrong> for Wrong {
    fn from(wrong: image::Wrong) -> Wrong {
        match wrong {
            image::Wrong::Invalid(_) => Wrong::Invalid(format!("the image is not valid: {wrong}")),
            image::Wrong::TooLarge { .. } => Wrong::ImageTooLarge(wrong.to_string()),
        }
    }
}

impl From<NoRoom> for Wrong {
    fn from(none: NoRoom) -> Wrong {
        Wrong::NoRoom(none)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_without_a_name_answers_to_any() {
        let model = |name: &str, version: Option<&str>| Model {
            speaks: Speaks::Rest,
            name: name.into(),
            version: version.map(Box::from),
            inputs: Vec::new(),
            outputs: Vec::new(),
            images: image::Limits { pixels_max: 1, side_max: 1 },
            memory_bytes_max: 1,
        };
        assert!(model("", None).is_called("a", Some("1")));
        assert!(
            model("a", Some("1")).is_called("a", None) && model("a", Some("1")).is_called("a", Some("1"))
        );
        assert!(!model("a", None).is_called("b", None) && !model("a", Some("1")).is_called("a", Some("2")));
    }
}
