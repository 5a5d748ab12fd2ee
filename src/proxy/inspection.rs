//! Owns the checks of a request's body that a route asks for: JSON by its nesting and the shape of an inference request, images by
//! their heads. Judges the payload as it passes by, keeps none of it, and says what is wrong before the last of it has gone on.

use std::cell::RefCell;
use std::fmt;

use crate::error::{Error, Kind};
use crate::http::h1_body::ChunkedDecoder;
use crate::http::head::Framing;
use crate::inference::image_head::{self, Format, Head, Seen};
use crate::inference::json_scan::{self, Rules};

use super::body::Upload;
use super::client::Client;
use super::exchange::Exchange;
use super::input::RequestView;
use super::media;
use super::route::RouteInput;
use super::routed::view;

/// `check` of a route.
#[derive(Debug)]
pub struct Check {
    pub json: Option<JsonCheck>,
    pub image: Option<ImageBounds>,
}

#[derive(Debug, Clone, Copy)]
pub struct JsonCheck {
    /// Arrays and objects around one another.
    pub depth_max: u8,
    /// It has to be an inference request of the Open Inference Protocol.
    pub is_inference: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageBounds {
    /// Pixels, of width and height each.
    pub side_max: u32,
    /// Of the whole image.
    pub pixels_max: u64,
}

/// One body under inspection.
#[derive(Debug)]
pub struct Inspection(RefCell<Look>);

#[derive(Debug)]
enum Look {
    Json {
        scanner: Box<json_scan::Scanner>,
        /// What is JSON of what is still to come: behind an inference request, tensors may follow.
        bytes_left: u64,
    },
    Image(image_head::Scanner, ImageBounds),
    /// Whatever comes now is right.
    Over,
}

/// Judges a body that is all there; sees to it that another is judged as it passes.
pub fn begin(exchange: &mut Exchange, client: &Client, check: &Check, upload: Upload) -> Result<(), Error> {
    let Some(inspection) = Inspection::of(check, &view(exchange))? else { return Ok(()) };
    match upload {
        Upload::None => Ok(()),
        Upload::Whole(length) => {
            let mut scratch = exchange.core.take_scratch();
            let judged = inspection.take_whole(exchange, client.end.arrived(length, &mut scratch));
            exchange.core.give_back_scratch(scratch);
            judged
        }
        Upload::Stream => {
            exchange.inspection = Some(Box::new(inspection));
            Ok(())
        }
    }
}

impl Inspection {
    /// `None`: the check has nothing to say of such a body.
    pub fn of(check: &Check, seen: &RequestView<'_>) -> Result<Option<Inspection>, Error> {
        let Some(look) = Look::at(check, seen)? else { return Ok(None) };
        // What it would be once it is decoded is not for us to find out.
        if seen.any_header("content-encoding", &mut |value| !value.eq_ignore_ascii_case(b"identity")) {
            return Err(Error::with_source(
                Kind::UnsupportedMediaType,
                "it is checked here, and may not be encoded",
            ));
        }
        Ok(Some(Inspection(RefCell::new(look))))
    }

    /// `bytes`: with the framing that they came in, which has been judged.
    fn take_whole(&self, exchange: &Exchange, bytes: &[u8]) -> Result<(), Error> {
        let is_chunked = exchange.head.framing == Framing::Chunked && !exchange.is_http2;
        if !is_chunked {
            return self.take(bytes, true);
        }
        let limits = exchange.snapshot().map(|snapshot| snapshot.settings.chunk_limits).unwrap_or_default();
        let mut judged = Ok(());
        let advance = ChunkedDecoder::new(limits).advance(bytes, |piece| {
            if judged.is_ok() {
                judged = self.take(piece, false);
            }
        });
        advance.map_err(|error| Error::with_source(Kind::BadRequestBody, error))?;
        judged.and_then(|()| self.take(&[], true))
    }

    /// The next piece of the payload, before it goes on. `is_last`: nothing follows it. An error is told again whatever comes after it.
    pub fn take(&self, piece: &[u8], is_last: bool) -> Result<(), Error> {
        let mut look = self.0.borrow_mut();
        match &mut *look {
            Look::Json { scanner, bytes_left } => {
                let count = usize::try_from(*bytes_left).unwrap_or(usize::MAX).min(piece.len());
                scanner.push(&piece[..count]).map_err(invalid)?;
                *bytes_left -= count as u64;
                if is_last || *bytes_left == 0 {
                    scanner.finish().map_err(invalid)?;
                    *look = Look::Over;
                }
            }
            Look::Image(scanner, bounds) => {
                let seen = scanner.push(piece).map_err(invalid)?;
                let head = match (seen, is_last) {
                    (Seen::Head(head), _) => head,
                    (Seen::More, false) => return Ok(()),
                    (Seen::More, true) => scanner.finish().map_err(invalid)?,
                };
                bounds.check(head)?;
                *look = Look::Over;
            }
            Look::Over => {}
        }
        Ok(())
    }

    /// Whether the rest may pass unseen.
    pub fn is_over(&self) -> bool {
        matches!(*self.0.borrow(), Look::Over)
    }
}

impl Look {
    /// `None`: nobody has to look.
    fn at(check: &Check, seen: &RequestView<'_>) -> Result<Option<Look>, Error> {
        let Some(content_type) = seen.only_value("content-type") else {
            return match seen.first_value("content-type") {
                Some(_) => Err(Error::with_source(Kind::UnsupportedMediaType, "it says twice what it is")),
                None => Ok(None),
            };
        };
        if let Some(json) = &check.json
            && let Some(bytes_left) = json_bytes(json, content_type, seen)?
        {
            let (depth_max, is_inference) = (json.depth_max, json.is_inference);
            let rules = Rules { depth_max, peek: None, is_inference };
            let scanner = Box::new(json_scan::Scanner::new(rules));
            return Ok(Some(Look::Json { scanner, bytes_left }));
        }
        let format = Format::of_media_type(media::essence(content_type));
        let look = |(format, bounds)| Look::Image(image_head::Scanner::new(format), bounds);
        Ok(format.zip(check.image).map(look))
    }
}

/// How much of a body is JSON, from its first byte; `None`: nothing.
fn json_bytes(check: &JsonCheck, content_type: &[u8], seen: &RequestView<'_>) -> Result<Option<u64>, Error> {
    let is_json = media::is_json(content_type) && !media::is_framed(content_type);
    // The binary extension: tensors follow the JSON, whatever the content type.
    if check.is_inference && seen.first_value(HEADER_LENGTH).is_some() {
        let length = seen.only_value(HEADER_LENGTH).and_then(|value| std::str::from_utf8(value).ok());
        let length = length.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let problem =
            || Error::with_source(Kind::InvalidBody, "inference-header-content-length is no length");
        match length.and_then(|text| text.parse().ok()).ok_or_else(problem)? {
            // All of it is a tensor; unless it says that it is JSON, and somebody may believe that.
            0 => {}
            length => return Ok(Some(length)),
        }
    }
    Ok(is_json.then_some(u64::MAX))
}

/// Of the Open Inference Protocol's binary tensor data extension.
const HEADER_LENGTH: &str = "inference-header-content-length";

fn invalid(reason: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::with_source(Kind::InvalidBody, reason)
}

impl ImageBounds {
    fn check(self, head: Head) -> Result<(), Error> {
        let pixels = u64::from(head.width) * u64::from(head.height);
        match head.width.max(head.height) <= self.side_max && pixels <= self.pixels_max {
            true => Ok(()),
            false => Err(Error::with_source(Kind::ImageTooLarge, TooLarge { head, bounds: self })),
        }
    }
}

#[derive(Debug)]
struct TooLarge {
    head: Head,
    bounds: ImageBounds,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Head { width, height, .. } = self.head;
        let ImageBounds { side_max, pixels_max } = self.bounds;
        write!(f, "it is {width} x {height}; at most {side_max} a side and {pixels_max} pixels are")
    }
}

impl std::error::Error for TooLarge {}
