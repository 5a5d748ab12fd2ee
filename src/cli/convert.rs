//! Owns `tidegate convert`: does offline what a service's model would be asked, and writes the tensor down as NumPy reads it. Needs no
//! running gateway and no model server.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use crate::config::compile::Resolutions;
use crate::config::{Registry, suggest};
use crate::control;
use crate::inference::conversion::Model;
use crate::inference::conversion::intake::{self, Came};
use crate::inference::image::Scratch;
use crate::inference::tensor::{Datatype, Tensor};
use crate::policy::memory::Envelope;

pub fn convert(arguments: &[String]) -> ExitCode {
    let wanted = match Wanted::parse(arguments) {
        Ok(wanted) => wanted,
        Err(message) => return crate::cli::usage_error(&message),
    };
    match wanted.convert() {
        Ok(told) => {
            print!("{told}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("tidegate: {}", message.trim_end());
            ExitCode::FAILURE
        }
    }
}

struct Wanted {
    file: PathBuf,
    service: String,
    input: PathBuf,
    output: PathBuf,
    content_type: Option<String>,
    /// Which of the model's inputs is written.
    name: Option<String>,
}

impl Wanted {
    fn parse(arguments: &[String]) -> Result<Wanted, String> {
        let [mut file, mut service, mut input, mut output, mut content_type, mut name] =
            [const { None::<String> }; 6];
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let place = match argument.as_str() {
                "-c" | "--config" => &mut file,
                "--service" => &mut service,
                "--input" => &mut input,
                "--output" => &mut output,
                "--content-type" => &mut content_type,
                "--name" => &mut name,
                other => return Err(format!("`convert` knows {OPTIONS}, not `{other}`")),
            };
            *place = Some(rest.next().ok_or(format!("`{argument}` needs a value"))?.clone());
        }
        let needed = |value: Option<String>, flag: &str| {
            value.ok_or(format!("`convert` needs `{flag}`: tidegate convert {EXAMPLE}"))
        };
        Ok(Wanted {
            file: needed(file, "-c")?.into(),
            service: needed(service, "--service")?,
            input: needed(input, "--input")?.into(),
            output: needed(output, "--output")?.into(),
            content_type,
            name,
        })
    }

    /// What has been done, in a line.
    fn convert(&self) -> Result<String, String> {
        let model = self.model()?;
        let body = std::fs::read(&self.input)
            .map_err(|error| format!("{} cannot be read: {error}", self.input.display()))?;
        let content_type = self.content_type.clone().unwrap_or_else(|| type_of(&self.input).to_owned());
        let came = Came {
            content_type: content_type.clone().into_bytes(),
            header_length: None,
            body: body.into(),
            is_protocol: false,
        };
        let mut room = Arc::new(Envelope::default()).part(model.memory_bytes_max);
        let request = intake::request(&model, &came, &mut room, &mut Scratch::default());
        let request =
            request.map_err(|wrong| format!("{} as {content_type}: {wrong}", self.input.display()))?;
        let tensors: Vec<&Tensor> = request.inputs.iter().map(|carried| &carried.tensor).collect();
        let tensor = self.chosen(&tensors)?;
        let written = npy(tensor)?;
        std::fs::write(&self.output, written)
            .map_err(|error| format!("{} cannot be written: {error}", self.output.display()))?;
        let (name, datatype, shape) = (&tensor.name, tensor.datatype.name(), &tensor.shape);
        Ok(format!("{name}: {datatype} {shape:?} in {}\n", self.output.display()))
    }

    fn model(&self) -> Result<Arc<Model>, String> {
        let mut registry = Registry::new();
        let (blueprint, _) = control::read_config(&self.file, &mut registry)?;
        let snapshot = blueprint.snapshot(None, &mut registry, &Resolutions::new());
        let names = snapshot.services.iter().map(|service| &*service.name);
        let Some(id) = snapshot.service_by_name.get(&*self.service) else {
            let meant = suggest::nearest(&self.service, names);
            let hint = meant.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
            return Err(format!("there is no service `{}`{hint}", self.service));
        };
        let model = snapshot.service(*id).model.clone();
        model.ok_or_else(|| format!("the service `{0}` has no [service.{0}.model]", self.service))
    }

    fn chosen<'t>(&self, tensors: &[&'t Tensor]) -> Result<&'t Tensor, String> {
        let names =
            || tensors.iter().map(|tensor| format!("`{}`", tensor.name)).collect::<Vec<_>>().join(", ");
        match (&self.name, tensors) {
            (None, [only]) => Ok(only),
            (None, _) => Err(format!("the model has several inputs; --name takes one of {}", names())),
            (Some(name), _) => {
                let found = tensors.iter().find(|tensor| *tensor.name == **name).copied();
                found.ok_or_else(|| format!("there is no input `{name}`; --name takes one of {}", names()))
            }
        }
    }
}

const OPTIONS: &str = "-c, --service, --input, --output, --content-type and --name";
const EXAMPLE: &str = "-c FILE --service NAME --input cat.jpg --output cat.npy";

/// By the end of its name, as servers of files do it.
fn type_of(file: &Path) -> &'static str {
    let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    match ending.to_ascii_lowercase().as_str() {
        "jpg" | "jpeg" => "image/jpeg",
        "png" => "image/png",
        "webp" => "image/webp",
        "json" => "application/json",
        "pb" => "application/x-protobuf",
        _ => "application/octet-stream",
    }
}

/// NumPy's format, version 1.0 (numpy.lib.format).
fn npy(tensor: &Tensor) -> Result<Vec<u8>, String> {
    let descr = match tensor.datatype {
        Datatype::Bool => "|b1",
        Datatype::Uint8 => "|u1",
        Datatype::Int8 => "|i1",
        Datatype::Uint16 => "<u2",
        Datatype::Int16 => "<i2",
        Datatype::Uint32 => "<u4",
        Datatype::Int32 => "<i4",
        Datatype::Uint64 => "<u8",
        Datatype::Int64 => "<i8",
        Datatype::Fp16 => "<f2",
        Datatype::Fp32 => "<f4",
        Datatype::Fp64 => "<f8",
        // NumPy has no such type: its bits.
        Datatype::Bf16 => "<u2",
        Datatype::Bytes => {
            return Err(format!("the input `{}` is BYTES, which NumPy's format has not", tensor.name));
        }
    };
    let sides: String = tensor.shape.iter().map(|side| format!("{side}, ")).collect();
    let head = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}), }}", sides.trim_end());
    const MAGIC: &[u8; 8] = b"\x93NUMPY\x01\x00";
    // All before the data is a multiple of 64 bytes, and ends in a newline.
    let length = (MAGIC.len() + 2 + head.len() + 1).next_multiple_of(64) - MAGIC.len() - 2;
    let mut file = MAGIC.to_vec();
    file.extend_from_slice(&(length as u16).to_le_bytes());
    file.extend_from_slice(format!("{head:<0$}\n", length - 1).as_bytes());
    file.extend_from_slice(&tensor.data);
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_says_all_and_is_aligned() {
        let data = vec![0; 24].into();
        let tensor = |datatype, shape| Tensor { name: "a".into(), datatype, shape, data };
        let file = npy(&tensor(Datatype::Fp32, vec![1, 2, 3])).unwrap();
        assert_eq!(file.len(), 128 + 24);
        assert_eq!(&file[..10], b"\x93NUMPY\x01\x00\x76\x00");
        let head = String::from_utf8(file[10..128].to_vec()).unwrap();
        assert!(
            head.starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2, 3,), }  "),
            "{head}"
        );
        assert!(head.ends_with(" \n"));
    }
}
