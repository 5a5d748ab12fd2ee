"""What others say of the protocol: Python's protobuf, generated from proto/open_inference.proto, and the code of NVIDIA's own HTTP client for
binary tensors. Started by tests/the_open_inference_protocol_is_spoken.rs with a folder: reads there what the gateway wrote, says what is wrong with
it, and writes what the gateway must read.
"""

import sys
from pathlib import Path

import numpy as np
from grpc_tools import protoc

HERE = Path(__file__).resolve().parent
FOLDER = Path(sys.argv[1])

sys.path.insert(0, str(FOLDER))
PROTO = HERE.parent.parent / "proto"
assert protoc.main(["protoc", f"-I{PROTO}", f"--python_out={FOLDER}", "open_inference.proto", "tensor.proto"]) == 0
import open_inference_pb2 as oip  # noqa: E402
import tensor_pb2  # noqa: E402

NUMPY = {
    "BOOL": np.bool_, "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64, "INT8": np.int8,
    "INT16": np.int16, "INT32": np.int32, "INT64": np.int64, "FP16": np.float16, "FP32": np.float32, "FP64": np.float64,
}  # fmt: skip
CONTENTS = {
    "BOOL": "bool_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
TEXTS = [b"a", "é".encode(), b""]


def values(datatype):
    """Three elements, as the test in Rust has them."""
    if datatype == "BYTES":
        return np.array(TEXTS, dtype=object)
    if datatype == "BOOL":
        return np.array([True, False, True])
    if datatype == "BF16":
        return None
    kind = NUMPY[datatype]
    if datatype.startswith("FP"):
        return np.array([0.1, -2.5, 1000], dtype=kind)
    return np.array([np.iinfo(kind).min, np.iinfo(kind).max, 5], dtype=kind)


def raw(datatype):
    if datatype == "BYTES":
        return b"".join(len(text).to_bytes(4, "little") + text for text in TEXTS)
    if datatype == "BF16":
        return bytes([0x80, 0x3F, 0x00, 0xC0, 0x20, 0x40])
    return values(datatype).tobytes()


def check_protobuf():
    request = oip.ModelInferRequest.FromString((FOLDER / "request.pb").read_bytes())
    assert (request.model_name, request.model_version, request.id) == ("m", "2", "é")
    parameters = {name: getattr(value, value.WhichOneof("parameter_choice")) for name, value in request.parameters.items()}
    assert parameters == {"b": False, "d": -0.5, "i": -(2**63), "t": "", "u": 2**64 - 1}, parameters
    assert [output.name for output in request.outputs] == ["y", ""]
    assert len(request.inputs) == len(request.raw_input_contents) == 14
    for tensor, contents in zip(request.inputs, request.raw_input_contents):
        assert tensor.name == tensor.datatype and list(tensor.shape) == [1, 3], tensor
        assert contents == raw(tensor.datatype), tensor.datatype
    (FOLDER / "python.pb").write_bytes(request.SerializeToString(deterministic=True))
    response = oip.ModelInferResponse.FromString((FOLDER / "response.pb").read_bytes())
    assert response.raw_output_contents[0] == raw("FP32") and response.outputs[0].name == "y"
    model = oip.ModelMetadataResponse.FromString((FOLDER / "metadata.pb").read_bytes())
    assert list(model.inputs[0].shape) == [-1, 3] and list(model.versions) == ["1", "2"]
    server = oip.ServerMetadataResponse.FromString((FOLDER / "server.pb").read_bytes())
    assert list(server.extensions) == ["binary_tensor_data"]
    bare = tensor_pb2.TensorRequest.FromString((FOLDER / "tensor.pb").read_bytes())
    assert bare.data == b"abcdef" and list(bare.shape) == [2, 3]


def write_typed():
    request = oip.ModelInferRequest(model_name="m")
    for datatype, field in CONTENTS.items():
        tensor = request.inputs.add(name=datatype, datatype=datatype, shape=[1, 3])
        getattr(tensor.contents, field).extend(values(datatype).tolist())
    (FOLDER / "typed.pb").write_bytes(request.SerializeToString())


def write_rest():
    """What tritonclient sends: JSON, and JSON with binary tensors."""
    import tritonclient.http as triton

    for is_binary in (False, True):
        inputs = []
        for datatype in CONTENTS if not is_binary else [*CONTENTS, "FP16"]:
            tensor = triton.InferInput(datatype, [1, 3], datatype)
            # Strings are all that JSON has for BYTES.
            tensor.set_data_from_numpy(values(datatype).reshape(1, 3), binary_data=is_binary)
            inputs.append(tensor)
        outputs = [triton.InferRequestedOutput("y", binary_data=is_binary)]
        body, header = triton.InferenceServerClient.generate_request_body(inputs, outputs=outputs, request_id="7")
        name = "binary" if is_binary else "json"
        (FOLDER / f"{name}.body").write_bytes(body)
        (FOLDER / f"{name}.header").write_text("" if header is None else str(header))


def check_rest():
    import tritonclient.http as triton

    for name in ("answer_json", "answer_binary"):
        header = (FOLDER / f"{name}.header").read_text()
        body = (FOLDER / f"{name}.body").read_bytes()
        result = triton.InferenceServerClient.parse_response_body(body, header_length=int(header) if header else None)
        assert result.get_response()["id"] == "é"
        for output in result.get_response()["outputs"]:
            datatype = output["datatype"]
            if datatype == "BF16":
                continue
            seen = result.as_numpy(output["name"])
            expected = values(datatype).reshape(1, 3)
            if datatype == "BYTES":
                seen = np.array([text if isinstance(text, bytes) else text.encode() for text in seen.ravel()], dtype=object).reshape(1, 3)
            assert seen.shape == (1, 3) and (seen == expected).all(), (name, datatype, seen)


check_protobuf()
write_typed()
write_rest()
check_rest()
print("all said")
