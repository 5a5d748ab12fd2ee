//! Owns reading `[service.NAME.model]`: what a model takes and gives, compiled at once to what the data path reads.

use std::path::Path;
use std::sync::Arc;

use toml::de::DeValue;

use crate::config::diagnostic::Problem;
use crate::config::reader::Section;
use crate::config::value::{self, Parsed, shown};
use crate::inference::conversion::{Classes, Form, Input, Model, Output, Speaks};
use crate::inference::image::{self, Channels, Fit, Layout, Plan, Wanted};
use crate::inference::tensor::Datatype;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SpeaksWord {
    Grpc,
    Rest,
    Binary,
    Tensor,
}

const PROTOCOLS: &[(&str, SpeaksWord)] = &[
    ("grpc", SpeaksWord::Grpc),
    ("rest", SpeaksWord::Rest),
    ("binary", SpeaksWord::Binary),
    ("tensor", SpeaksWord::Tensor),
];

/// `None`: something is wrong, and reported.
pub fn model(section: &Section<'_>, speaks_http2: bool, directory: &Path) -> Option<Model> {
    let word = section.required("protocol", value::word(PROTOCOLS));
    let name = section.optional("name", text).map(|found| found.value);
    let path = section.value("path", super::document_health::path);
    let speaks = match word.as_ref()?.value {
        SpeaksWord::Grpc => Speaks::Grpc,
        SpeaksWord::Rest => Speaks::Rest,
        SpeaksWord::Binary => Speaks::Binary,
        SpeaksWord::Tensor => Speaks::Tensor { path },
    };
    let is_tensor = matches!(speaks, Speaks::Tensor { .. });
    if is_tensor != section.has("path") && section.has("path") {
        let problem = Problem::new("`path` is for models with `protocol = \"tensor\"`");
        let help = "the protocol has paths of its own: remove this";
        section.error(section.key_span("path"), "path", problem.help(help));
    }
    if name.is_none() && !is_tensor && !section.has("name") {
        section.absent("name");
    }
    if speaks == Speaks::Grpc && !speaks_http2 {
        let problem = Problem::new("gRPC needs HTTP/2, which this service does not speak");
        section.error(
            section.key_span("protocol"),
            "protocol",
            problem.help("add `protocol = \"h2\"` to the service"),
        );
    }
    let inputs = each(section, "inputs", |table| input(&table), |input| &input.name);
    let outputs = each(section, "outputs", |table| output(&table, directory), |output| &output.name);
    for (key, count) in [("inputs", inputs.len()), ("outputs", outputs.len())] {
        if is_tensor && count > 1 {
            let words =
                format!("with `protocol = \"tensor\"` a model has one tensor, and {count} {key} here");
            section.error(section.key_span(key), key, Problem::new(words).help("keep one"));
        }
    }
    Some(Model {
        speaks,
        name: name.unwrap_or_default(),
        version: section.optional("version", text).map(|found| found.value),
        inputs,
        outputs,
        images: image::Limits {
            side_max: section.value("image_side", value::integer(1..=u32::MAX.into())) as u32,
            pixels_max: section.value("image_pixels", value::integer(1..=u64::from(u32::MAX))),
        },
        memory_bytes_max: section.value("memory", value::size),
    })
}

/// Those of `[[service.NAME.model.KEY]]` that are right. Two of one name are told.
fn each<'a, T>(
    section: &Section<'a>,
    key: &'static str,
    read: impl Fn(Section<'a>) -> Option<T>,
    name: impl Fn(&T) -> &str,
) -> Vec<T> {
    let mut all: Vec<T> = Vec::new();
    for node in section.tables(key) {
        let Some(table) = section.table_of(key, node) else { continue };
        let Some(one) = read(table) else { continue };
        if all.iter().any(|known| name(known) == name(&one)) {
            let problem = Problem::new(format!("\"{}\" stands twice", shown(name(&one))));
            table.error(table.key_span("name"), "name", problem.help("each has a name of its own"));
        }
        all.push(one);
    }
    all
}

/// What may stand in a path, and in a message.
fn text(value: &DeValue<'_>) -> Parsed<Box<str>> {
    let text = value::text(value)?;
    match !text.is_empty() && !text.chars().any(char::is_control) {
        true => Ok(text.into()),
        false => Err(Problem::new(format!("\"{}\" is no name", shown(text)))),
    }
}

fn datatype(value: &DeValue<'_>) -> Parsed<Datatype> {
    let text = value::text(value)?;
    Datatype::of(text).ok_or_else(|| {
        let upper = text.to_ascii_uppercase();
        let meant = match &*upper {
            "FLOAT" | "FLOAT32" | "F32" => Some(Datatype::Fp32),
            "DOUBLE" | "FLOAT64" | "F64" => Some(Datatype::Fp64),
            "HALF" | "FLOAT16" | "F16" => Some(Datatype::Fp16),
            "BFLOAT16" => Some(Datatype::Bf16),
            "STRING" | "TEXT" => Some(Datatype::Bytes),
            other => Datatype::of(other),
        };
        let names = Datatype::ALL.map(Datatype::name).join(", ");
        let help = meant
            .map_or(format!("write one of {names}"), |meant| format!("did you mean \"{}\"?", meant.name()));
        Problem::new(format!("\"{}\" is no datatype of the Open Inference Protocol", shown(text))).help(help)
    })
}

fn side(value: &DeValue<'_>) -> Parsed<i64> {
    let number =
        value.as_integer().and_then(|number| i64::from_str_radix(number.as_str(), number.radix()).ok());
    match number {
        Some(side) if side == -1 || (1..=i64::from(i32::MAX)).contains(&side) => Ok(side),
        _ => Err(Problem::new("a side of a shape is a whole number from 1, or -1 for any")),
    }
}

/// RFC 6901.
fn pointer(value: &DeValue<'_>) -> Parsed<Box<str>> {
    let text = value::text(value)?;
    match text.starts_with('/') {
        true => Ok(text.into()),
        false => Err(Problem::new(format!("\"{}\" is no JSON pointer", shown(text)))
            .help(format!("write \"/{}\": the member of that name", shown(text)))),
    }
}

const LAYOUTS: &[(&str, Layout)] = &[("NCHW", Layout::Nchw), ("NHWC", Layout::Nhwc)];
const COLORS: &[(&str, Channels)] =
    &[("rgb", Channels::Rgb), ("bgr", Channels::Bgr), ("gray", Channels::Gray)];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FitWord {
    Stretch,
    Letterbox,
    Crop,
}

const FITS: &[(&str, FitWord)] =
    &[("stretch", FitWord::Stretch), ("letterbox", FitWord::Letterbox), ("crop", FitWord::Crop)];

/// A number, or a fraction such as `"1/255"`.
fn real(value: &DeValue<'_>) -> Parsed<f32> {
    let wrong = || Problem::new("expected a number such as 0.5, or a fraction such as \"1/255\"");
    let written = value.as_float().map(|number| number.as_str().to_owned());
    let written = written.or_else(|| value.as_integer().map(|number| number.to_string()));
    let number = match written {
        Some(text) => text.parse::<f64>().ok(),
        None => {
            let (above, below) = value.as_str().and_then(|text| text.split_once('/')).ok_or_else(wrong)?;
            let parse = |text: &str| text.trim().parse::<f64>().ok();
            parse(above).zip(parse(below)).map(|(above, below)| above / below)
        }
    };
    number.map(|number| number as f32).filter(|number| number.is_finite()).ok_or_else(wrong)
}

fn input(table: &Section<'_>) -> Option<Input> {
    let name = table.required("name", text);
    let datatype = table.required("datatype", datatype);
    let shape: Vec<i64> = table.list("shape", side).into_iter().map(|found| found.value).collect();
    let pointer = table.optional("json", pointer).map(|found| found.value);
    let is_batched = table.value("batch", value::boolean);
    let is_image = table.value("image", value::boolean);
    let layout = table.optional("layout", value::word(LAYOUTS)).map(|found| found.value);
    let (name, datatype) = (name?.value, datatype?.value);
    if !is_image {
        only_of_images(table);
        return Some(Input { name, datatype, shape, is_batched, pointer, form: Form::Value });
    }
    if datatype == Datatype::Bytes {
        only_of_decoded(table);
        return Some(Input { name, datatype, shape, is_batched, pointer, form: Form::Encoded });
    }
    let Some(layout) = layout else {
        if !table.has("layout") {
            table.absent("layout");
        }
        return None;
    };
    let plan = plan(table, datatype, layout, &shape)?;
    let shape = plan.shape().map(|side| side as i64).to_vec();
    Some(Input { name, datatype, shape, is_batched, pointer, form: Form::Image(Box::new(plan)) })
}

const OF_DECODED: [&str; 7] = ["layout", "colors", "fit", "pad", "scale", "mean", "std"];

fn only_of_images(table: &Section<'_>) {
    for key in OF_DECODED.into_iter().filter(|key| table.has(key)) {
        let problem = Problem::new(format!("`{key}` is for inputs that are images"));
        table.error(table.key_span(key), key, problem.help("add `image = true`, or remove this"));
    }
}

fn only_of_decoded(table: &Section<'_>) {
    for key in OF_DECODED.into_iter().filter(|key| table.has(key)) {
        let problem =
            Problem::new(format!("`{key}` is for images that are decoded, and BYTES are passed on"));
        table.error(table.key_span(key), key, problem.help("name another `datatype`, or remove this"));
    }
}

fn plan(table: &Section<'_>, datatype: Datatype, layout: Layout, shape: &[i64]) -> Option<Plan> {
    let channels = table.value("colors", value::word(COLORS));
    let pad = table.value("pad", value::integer(0..=255)) as u8;
    let fit = match table.value("fit", value::word(FITS)) {
        FitWord::Stretch => Fit::Stretch,
        FitWord::Letterbox => Fit::Letterbox { pad },
        FitWord::Crop => Fit::Crop,
    };
    if table.has("pad") && !matches!(fit, Fit::Letterbox { .. }) {
        let problem = Problem::new("`pad` is for `fit = \"letterbox\"`");
        table.error(table.key_span("pad"), "pad", problem.help("change `fit`, or remove this"));
    }
    let (height, width) = sides(table, layout, channels, shape)?;
    let of_channels = |key: &'static str, default: f32| -> Option<[f32; 3]> {
        let values: Vec<f32> = table.list(key, real).into_iter().map(|found| found.value).collect();
        match values[..] {
            _ if !table.has(key) => Some([default; 3]),
            [one] => Some([one; 3]),
            [first, second, third] if channels.count() == 3 => Some([first, second, third]),
            _ => {
                let problem =
                    Problem::new(format!("`{key}` has a value for each channel: {}", channels.count()));
                table.error(table.key_span(key), key, problem);
                None
            }
        }
    };
    let (mean, std) = (of_channels("mean", 0.0)?, of_channels("std", 1.0)?);
    let scale = table.value("scale", real);
    match Plan::new(Wanted { width, height, channels, fit, datatype, layout, scale, mean, std }) {
        Ok(plan) => Some(plan),
        Err(words) => {
            table.error(table.span(), "image", Problem::new(words));
            None
        }
    }
}

/// Height and width.
fn sides(table: &Section<'_>, layout: Layout, channels: Channels, shape: &[i64]) -> Option<(u32, u32)> {
    const SIDE: u32 = 224;
    let depth = channels.count() as i64;
    let (found, order) = match (layout, shape) {
        (_, []) if !table.has("shape") => return Some((SIDE, SIDE)),
        (Layout::Nchw, &[c, h, w]) => ((c == depth).then_some((h, w)), "[channels, height, width]"),
        (Layout::Nhwc, &[h, w, c]) => ((c == depth).then_some((h, w)), "[height, width, channels]"),
        (Layout::Nchw, _) => (None, "[channels, height, width]"),
        (Layout::Nhwc, _) => (None, "[height, width, channels]"),
    };
    let fits = found.and_then(|(h, w)| u32::try_from(h).ok().zip(u32::try_from(w).ok()));
    if fits.is_none() {
        let problem = Problem::new(format!("the shape of such an image is {order}, with {depth} channels"));
        let help = "the batch stands for itself: write [3, 224, 224] for [-1, 3, 224, 224]";
        table.error(table.key_span("shape"), "shape", problem.help(help));
    }
    fits
}

fn output(table: &Section<'_>, directory: &Path) -> Option<Output> {
    let name = table.required("name", text);
    let datatype = table.optional("datatype", datatype).map(|found| found.value);
    let top = table.optional("top", value::integer(1..=1000)).map(|found| found.value as usize);
    let is_softmax = table.value("softmax", value::boolean);
    let labels = table.optional("labels", |value| labels(&directory.join(value::text(value)?)));
    for key in ["softmax", "labels"].into_iter().filter(|key| table.has(key) && top.is_none()) {
        let problem = Problem::new(format!("`{key}` does nothing without `top`"));
        table.error(table.key_span(key), key, problem.help("add `top = 5`: so many classes are told"));
    }
    let labels = labels.map(|found| found.value).unwrap_or_default();
    let classes = top.map(|top| Classes { top, is_softmax, labels });
    Some(Output { name: name?.value, datatype, classes })
}

/// A label on each line, from class 0 on.
fn labels(file: &Path) -> Parsed<Arc<[Box<str>]>> {
    const BYTES_MAX: u64 = 16 << 20;
    let cannot =
        |error: &dyn std::fmt::Display| Problem::new(format!("{} cannot be read: {error}", file.display()));
    let length = std::fs::metadata(file).map_err(|error| cannot(&error))?.len();
    if length > BYTES_MAX {
        return Err(Problem::new(format!("{} is larger than 16MiB", file.display())));
    }
    let text = std::fs::read_to_string(file).map_err(|error| cannot(&error))?;
    Ok(text.lines().map(|line| Box::from(line.trim())).collect())
}
