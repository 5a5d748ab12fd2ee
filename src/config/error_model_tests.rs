//! What is said of mistakes in what a model takes and gives.

use super::*;

macro_rules! model {
    ($rest:expr) => {
        concat!(
            "[service.m]\nendpoints = [\"a:1\"]\n[service.m.model]\nprotocol = \"rest\"\nname = \"c\"\n",
            $rest
        )
    };
}

macro_rules! image {
    ($rest:expr) => {
        concat!(model!("[[service.m.model.inputs]]\nname = \"i\"\nimage = true\n"), $rest)
    };
}

const MODEL: &[Case] = &[
    ("[service.m]\nendpoints = [\"a:1\"]\n[service.m.model]\nname = \"c\"", "3:1", "has no `protocol`", ""),
    (
        "[service.m]\nendpoints = [\"a:1\"]\n[service.m.model]\nprotocol = \"gprc\"\nname = \"c\"",
        "4:12",
        "is none of",
        "did you mean \"grpc\"?",
    ),
    (
        "[service.m]\nendpoints = [\"a:1\"]\n[service.m.model]\nprotocol = \"grpc\"\nname = \"c\"",
        "4:1",
        "gRPC needs HTTP/2",
        "protocol = \"h2\"",
    ),
    (
        "[service.m]\nendpoints = [\"a:1\"]\n[service.m.model]\nprotocol = \"rest\"",
        "3:1",
        "has no `name`",
        "",
    ),
    (model!("path = \"/x\""), "6:1", "`path` is for models with", "remove this"),
    (model!("memory = \"lots\""), "6:10", "is not a size", "whole number with a unit"),
    (model!("[[service.m.model.inputs]]\ndatatype = \"FP32\""), "6:1", "has no `name`", ""),
    (model!("[[service.m.model.inputs]]\nname = \"i\""), "6:1", "has no `datatype`", ""),
    (
        model!("[[service.m.model.inputs]]\nname = \"i\"\ndatatype = \"float32\""),
        "8:12",
        "is no datatype",
        "did you mean \"FP32\"?",
    ),
    (
        model!("[[service.m.model.inputs]]\nname = \"i\"\ndatatype = \"FP32\"\nshape = [0]"),
        "9:10",
        "a side of a shape",
        "",
    ),
    (
        model!("[[service.m.model.inputs]]\nname = \"i\"\ndatatype = \"BYTES\"\njson = \"text\""),
        "9:8",
        "is no JSON pointer",
        "\"/text\"",
    ),
    (
        model!("[[service.m.model.inputs]]\nname = \"i\"\ndatatype = \"FP32\"\nscale = 2"),
        "9:1",
        "`scale` is for inputs that are images",
        "image = true",
    ),
    (
        image!("datatype = \"BYTES\"\nlayout = \"NCHW\""),
        "10:1",
        "`layout` is for images that are decoded",
        "name another",
    ),
    (
        "[service.m]\nendpoints = [\"a:1\"]\nproxy_protocol = \"v1\"\n[service.m.model]\nprotocol = \"rest\"\nname = \"c\"",
        "3:1",
        "a PROXY header",
        "x-forwarded-for",
    ),
    (
        model!("[[service.m.model.outputs]]\nname = \"o\"\n[[service.m.model.outputs]]\nname = \"o\""),
        "9:1",
        "\"o\" stands twice",
        "a name of its own",
    ),
    (
        "[service.m]\nendpoints = [\"a:1\"]\n[service.m.model]\nprotocol = \"tensor\"\noutputs = [{ name = \"a\" }, { name = \"b\" }]",
        "5:1",
        "a model has one tensor, and 2 outputs here",
        "keep one",
    ),
    (image!("datatype = \"FP32\""), "6:1", "has no `layout`", ""),
    (image!("datatype = \"FP32\"\nlayout = \"CHW\""), "10:10", "is none of", "did you mean \"NCHW\"?"),
    (
        image!("datatype = \"FP32\"\nlayout = \"NCHW\"\nshape = [224, 224, 3]"),
        "11:1",
        "[channels, height, width]",
        "the batch",
    ),
    (
        image!("datatype = \"FP32\"\nlayout = \"NCHW\"\nscale = \"1:255\""),
        "11:9",
        "expected a number such as 0.5",
        "",
    ),
    (
        image!("datatype = \"FP32\"\nlayout = \"NCHW\"\nmean = [1, 2]"),
        "11:1",
        "a value for each channel: 3",
        "",
    ),
    (image!("datatype = \"FP32\"\nlayout = \"NCHW\"\nstd = 0"), "6:1", "std", ""),
    (image!("datatype = \"INT8\"\nlayout = \"NCHW\""), "6:1", "UINT8", ""),
    (image!("datatype = \"FP32\"\nlayout = \"NCHW\"\npad = 1"), "11:1", "`pad` is for", "remove this"),
    (
        model!("[[service.m.model.outputs]]\nname = \"o\"\nsoftmax = true"),
        "8:1",
        "nothing without `top`",
        "top = 5",
    ),
    (
        model!("[[service.m.model.outputs]]\nname = \"o\"\ntop = 5\nlabels = \"nowhere.txt\""),
        "9:10",
        "nowhere.txt cannot be read",
        "",
    ),
];

#[test]
fn models() {
    assert_cases(Severity::Error, MODEL);
}
