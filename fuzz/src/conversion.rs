//! Whatever a client sends is refused, or becomes what its model was declared to take, within the memory that there is; and what becomes of
//! it can be read by the server. Whatever a server answers is refused, or told in each way that a client may want.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use tidegate::config::{Registry, Resolutions, compile};
use tidegate::inference::conversion::answer::{self, Wanted};
use tidegate::inference::conversion::incoming::{self, Incoming};
use tidegate::inference::conversion::intake::{self, Came};
use tidegate::inference::conversion::{Model, Speaks, outgoing};
use tidegate::inference::image::Scratch;
use tidegate::inference::oip::declared;
use tidegate::inference::oip::limits::Limits;
use tidegate::inference::oip::model::InferRequest;
use tidegate::inference::oip::protobuf;
use tidegate::policy::memory::Envelope;

const CONFIG: &str = r#"
[listen.web]
address = "127.0.0.1:1"
[service.images]
endpoints = ["127.0.0.1:2"]
protocol = "h2"
model = { protocol = "grpc", name = "m", memory = "4MiB", inputs = [{ name = "image", datatype = "FP32", shape = [3, 8, 8], image = true, layout = "NCHW", json = "/image" }], outputs = [{ name = "scores", top = 2, softmax = true }] }
[service.values]
endpoints = ["127.0.0.1:2"]
model = { protocol = "rest", name = "m", memory = "4MiB", inputs = [{ name = "text", datatype = "BYTES", shape = [1], json = "/text" }, { name = "ids", datatype = "INT64", shape = [-1], batch = false, json = "/ids" }] }
[service.raw]
endpoints = ["127.0.0.1:2"]
model = { protocol = "tensor", memory = "4MiB", inputs = [{ name = "raw", datatype = "FP16", shape = [2, -1] }] }
[service.encoded]
endpoints = ["127.0.0.1:2"]
model = { protocol = "binary", name = "m", memory = "4MiB", inputs = [{ name = "image", datatype = "BYTES", shape = [1], image = true }] }
[[route]]
to = "images"
[[route]]
match.path = "/v"
to = "values"
"#;

static MODELS: LazyLock<Vec<Arc<Model>>> = LazyLock::new(|| {
    let mut registry = Registry::new();
    let compiled = compile(Path::new("fuzz.toml"), CONFIG, None, &mut registry);
    let blueprint = compiled.blueprint.unwrap_or_else(|| panic!("{}", compiled.diagnostics));
    let snapshot = blueprint.snapshot(None, &mut registry, &Resolutions::new());
    snapshot.services.iter().filter_map(|service| service.model.clone()).collect()
});

const TYPES: [&str; 8] = [
    "application/json",
    "image/jpeg",
    "image/png",
    "image/webp",
    "multipart/form-data; boundary=x",
    "application/x-protobuf",
    "application/octet-stream",
    "",
];

pub fn intake(data: &[u8]) {
    let Some((&[model, kind, header], body)) = data.split_first_chunk() else { return };
    let model = &MODELS[usize::from(model) % MODELS.len()];
    let came = Came {
        content_type: TYPES[usize::from(kind) % TYPES.len()].into(),
        header_length: (header < 128).then(|| header.to_string().into_bytes()),
        body: Bytes::copy_from_slice(body),
        is_protocol: header.is_multiple_of(2),
    };
    let envelope = Arc::new(Envelope::default());
    let mut room = envelope.part(model.memory_bytes_max);
    let request = intake::request(model, &came, &mut room, &mut Scratch::default());
    assert!(envelope.held() <= model.memory_bytes_max);
    let Ok(request) = request else { return };
    assert_eq!(declared::check(&request, &model.declared()), Ok(()));
    let tensors: usize = request.inputs.iter().map(|carried| carried.tensor.data.len()).sum();
    let Ok(asks) = outgoing::infer(model, request.clone()) else { return };
    match model.speaks {
        Speaks::Grpc => {
            let message = Bytes::from(asks.body).slice(5..);
            let read = protobuf::decode_request(&message, &Limits::default()).expect("our own message");
            assert_eq!(read.inputs, request.inputs);
        }
        _ => assert!(asks.body.len() >= tensors / 8, "{} of {tensors}", asks.body.len()),
    }
}

pub fn answers(data: &[u8]) {
    let Some((&[model, status, header], body)) = data.split_first_chunk() else { return };
    let model = &MODELS[usize::from(model) % MODELS.len()];
    let came = Incoming {
        status: 200 + u16::from(status),
        header_length: (header < 128).then(|| header.to_string().into_bytes()),
        call: (status < 17).then(|| (status, String::new())),
        body: Bytes::copy_from_slice(body),
    };
    let Ok(response) = incoming::response(model, &came) else { return };
    for wanted in [Wanted::Plain, Wanted::Protocol, Wanted::Binary, Wanted::Protobuf, Wanted::Message] {
        // Classes of what has none, and numbers that JSON has not, are refused.
        let _ = answer::response(model, wanted, &InferRequest::default(), response.clone());
    }
}
