//! What we write of the Open Inference Protocol, Python's protobuf and NVIDIA's client read, and the reverse, for every datatype
//! (`tests/oip/oracle.py`). Needs a Python with `grpcio-tools`, `numpy` and `tritonclient[http]`, which `OIP_PYTHON` or `python3` names; where
//! they are missing it says so and passes, unless `OIP_PYTHON` is set.

use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use tidegate::inference::oip::limits::Limits;
use tidegate::inference::oip::model::{
    Carried, InferRequest, InferResponse, ModelMetadata, Parameter, Parameters, RequestedOutput,
    ServerMetadata, TensorMetadata,
};
use tidegate::inference::oip::{json, protobuf};
use tidegate::inference::tensor::{Datatype, Tensor};

const MODULES: &str = "import grpc_tools.protoc, numpy, tritonclient.http";

#[test]
fn others_read_what_we_write_and_the_reverse() {
    let named = std::env::var("OIP_PYTHON").ok();
    let python = named.clone().unwrap_or_else(|| "python3".to_owned());
    let has_modules =
        Command::new(&python).args(["-c", MODULES]).output().is_ok_and(|output| output.status.success());
    if !has_modules && named.is_none() {
        println!("not compared: {python} has no grpcio-tools, numpy and tritonclient[http]");
        return;
    }
    let folder = std::env::temp_dir().join(format!("tidegate-oip-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder of our own");
    write_all(&folder);
    let oracle = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oip/oracle.py");
    let output = Command::new(&python).arg("-B").arg(oracle).arg(&folder).output().expect("Python runs");
    assert!(
        output.status.success() && output.stdout.ends_with(b"all said\n"),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    read_all(&folder);
    std::fs::remove_dir_all(&folder).expect("the folder is ours");
}

fn write_all(folder: &Path) {
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes).expect("it is written");
    let mut message = Vec::new();
    protobuf::encode_request(&request(), &mut message);
    write("request.pb", &message);
    let answer = |datatypes: &[Datatype]| InferResponse {
        model_name: "m".to_owned(),
        model_version: Some("2".to_owned()),
        id: Some("é".to_owned()),
        parameters: Parameters::new(),
        outputs: datatypes.iter().map(|&datatype| carried(datatype.name(), datatype)).collect(),
    };
    let mut message = Vec::new();
    let mut response = answer(&[Datatype::Fp32]);
    response.outputs[0].tensor.name = "y".into();
    protobuf::encode_response(&response, &mut message);
    write("response.pb", &message);
    write("metadata.pb", &protobuf::encode_model_metadata(&metadata()));
    let extensions = vec!["binary_tensor_data".to_owned()];
    let server = ServerMetadata { name: "s".to_owned(), version: "1".to_owned(), extensions };
    write("server.pb", &protobuf::encode_server_metadata(&server));
    let mut message = Vec::new();
    let bare = protobuf::BareTensor { data: Bytes::from_static(b"abcdef"), shape: vec![2, 3] };
    protobuf::encode_tensor(&bare, &mut message).expect("a small shape");
    write("tensor.pb", &message);
    let in_json: Vec<Datatype> = Datatype::ALL.into_iter().filter(|&datatype| has_json(datatype)).collect();
    for (name, body) in [
        ("answer_json", json::write_response(&answer(&in_json), |_| false)),
        (
            "answer_binary",
            json::write_response(&answer(&Datatype::ALL), |tensor| tensor.datatype != Datatype::Int8),
        ),
    ] {
        let body = body.expect("it can be said");
        let header = body.header_bytes().map_or(String::new(), |bytes| bytes.to_string());
        write(&format!("{name}.header"), header.as_bytes());
        write(&format!("{name}.body"), &body.into_vec());
    }
}

fn read_all(folder: &Path) {
    let read = |name: &str| Bytes::from(std::fs::read(folder.join(name)).expect("the oracle wrote it"));
    let limits = Limits::default();
    assert_eq!(protobuf::decode_request(&read("python.pb"), &limits), Ok(request()));
    let typed = protobuf::decode_request(&read("typed.pb"), &limits).expect("typed contents");
    assert_eq!(typed.inputs.len(), 12);
    let mut seen = typed.inputs;
    for (name, count) in [("json", 12), ("binary", 13)] {
        let (body, header) = (read(&format!("{name}.body")), read(&format!("{name}.header")));
        let header_bytes =
            (!header.is_empty()).then(|| json::header_length(&header, body.len()).expect("a length"));
        let request = json::read_request(&body, header_bytes, &limits).expect("what tritonclient sends");
        assert_eq!((request.id.as_deref(), request.inputs.len()), (Some("7"), count));
        assert_eq!((request.outputs[0].name.as_str(), request.wants_binary("y")), ("y", name == "binary"));
        seen.extend(request.inputs);
    }
    for input in seen {
        assert_eq!(input.tensor, carried(&input.tensor.name, input.tensor.datatype).tensor);
    }
}

fn request() -> InferRequest {
    let parameters = [
        ("b", Parameter::Bool(false)),
        ("d", Parameter::Double(-0.5)),
        ("i", Parameter::Int64(i64::MIN)),
        ("t", Parameter::Text(String::new())),
        ("u", Parameter::Uint64(u64::MAX)),
    ];
    let output = |name: &str| RequestedOutput {
        name: name.to_owned(),
        parameters: Parameters::new(),
        is_binary: None,
    };
    InferRequest {
        model: "m".to_owned(),
        version: Some("2".to_owned()),
        id: Some("é".to_owned()),
        parameters: parameters.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        inputs: Datatype::ALL.into_iter().map(|datatype| carried(datatype.name(), datatype)).collect(),
        outputs: vec![output("y"), output("")],
        is_binary_output: None,
    }
}

fn metadata() -> ModelMetadata {
    let input = TensorMetadata { name: "x".to_owned(), datatype: "FP32".to_owned(), shape: vec![-1, 3] };
    ModelMetadata {
        name: "m".to_owned(),
        versions: vec!["1".to_owned(), "2".to_owned()],
        inputs: vec![input],
        ..ModelMetadata::default()
    }
}

fn has_json(datatype: Datatype) -> bool {
    !matches!(datatype, Datatype::Fp16 | Datatype::Bf16)
}

/// Three elements, as the oracle has them.
fn carried(name: &str, datatype: Datatype) -> Carried {
    let integers = |least: i128, most: i128| {
        let size = datatype.size().expect("a fixed size");
        [least, most, 5].iter().flat_map(|number| number.to_le_bytes()[..size].to_vec()).collect()
    };
    let data: Vec<u8> = match datatype {
        Datatype::Bool => vec![1, 0, 1],
        Datatype::Uint8 => integers(0, u8::MAX.into()),
        Datatype::Uint16 => integers(0, u16::MAX.into()),
        Datatype::Uint32 => integers(0, u32::MAX.into()),
        Datatype::Uint64 => integers(0, u64::MAX.into()),
        Datatype::Int8 => integers(i8::MIN.into(), i8::MAX.into()),
        Datatype::Int16 => integers(i16::MIN.into(), i16::MAX.into()),
        Datatype::Int32 => integers(i32::MIN.into(), i32::MAX.into()),
        Datatype::Int64 => integers(i64::MIN.into(), i64::MAX.into()),
        Datatype::Fp16 => [0x2e66u16, 0xc100, 0x63d0].iter().flat_map(|bits| bits.to_le_bytes()).collect(),
        Datatype::Bf16 => vec![0x80, 0x3f, 0x00, 0xc0, 0x20, 0x40],
        Datatype::Fp32 => [0.1f32, -2.5, 1000.0].iter().flat_map(|number| number.to_le_bytes()).collect(),
        Datatype::Fp64 => [0.1f64, -2.5, 1000.0].iter().flat_map(|number| number.to_le_bytes()).collect(),
        Datatype::Bytes => b"\x01\0\0\0a\x02\0\0\0\xc3\xa9\0\0\0\0".to_vec(),
    };
    let tensor = Tensor { name: name.into(), datatype, shape: vec![1, 3], data: data.into() };
    Carried { tensor, parameters: Parameters::new() }
}
