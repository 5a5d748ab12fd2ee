"""scripts/proof inference: ids, requested outputs, versions, parameters, errors, health and metadata, by each client
through each conversion."""

import gzip
import json

import numpy as np
from google.protobuf.json_format import MessageToDict
from tritonclient.grpc import service_pb2

from inference_asking import by_grpc, by_http, error_of, of_binary, outcome, status_of, to
from triton import check, same, section

JSON = "application/json"
X = np.array([[1.5, -2.0, 3.25]], dtype=np.float32)
TWO = {"IN_FP32": ("FP32", X), "IN_INT64": ("INT64", np.array([[7, -(2**62)]]))}


def prove(world):
    prove_what_is_kept(world)
    prove_outputs_in_binary(world)
    prove_what_json_lacks(world)
    prove_errors(world)
    prove_errors_by_hand(world)
    prove_health(world)
    prove_metadata(world)
    prove_protobuf(world)


def prove_what_is_kept(world):
    section("ids, requested outputs, versions and parameters")
    asked = {
        "an id": dict(request_id="the-id-ü☃"),
        "no id": {},
        "one output of two": dict(outputs=["OUT_INT64"]),
        "a version": dict(model_version="1"),
        "priority and timeout": dict(priority=1, timeout=5_000_000),
        "a sequence": dict(sequence_id=9, sequence_start=True, sequence_end=True),
    }
    ways = [("HTTP", by_http, world.http, world.triton_http), ("gRPC", by_grpc, world.grpc, world.triton_grpc)]
    for what, options in asked.items():
        for client, by, through, direct in ways:
            expected = outcome(lambda: by(direct, "echo2", TWO, **options))
            for service in ("grpc", "rest", "binary"):
                same(
                    f"{what}: {client} → {service}",
                    expected,
                    outcome(lambda: by(through, "echo2", TWO, **options, **to(service))),
                )


def prove_outputs_in_binary(world):
    section("which outputs are in binary: as the request says, by all of it or by each")
    inputs = [
        {"name": "IN_FP32", "datatype": "FP32", "shape": [1, 3], "data": X.ravel().tolist()},
        {"name": "IN_BYTES", "datatype": "BYTES", "shape": [1, 1], "data": ["☃"]},
    ]

    def output(name, **parameters):
        return {"name": name, "parameters": parameters}

    asked = {
        "nothing said": {},
        "binary_data_output": {"parameters": {"binary_data_output": True}},
        "one of two": {"outputs": [output("OUT_FP32", binary_data=True), output("OUT_BYTES")]},
        "all but one": {
            "parameters": {"binary_data_output": True},
            "outputs": [output("OUT_FP32", binary_data=False), output("OUT_BYTES", binary_data=True)],
        },
    }
    for what, more in asked.items():
        body = json.dumps({"inputs": inputs} | more)
        expected = parts(world.ask_triton("/v2/models/echo2/infer", body, JSON))
        for service in ("grpc", "rest", "binary"):
            same(f"{what} → {service}", expected, parts(world.ask(service, "/v2/models/echo2/infer", body, JSON)))


def prove_what_json_lacks(world):
    section("what JSON has no way to say, for a client that wants JSON")
    for what, inputs in {
        "NaN": {"IN_FP32": ("FP32", np.array([[np.nan]], dtype=np.float32))},
        "BYTES that are no UTF-8": {"IN_BYTES": ("BYTES", np.array([[b"\xff"]], dtype=object))},
    }.items():
        made = outcome(lambda: by_grpc(world.grpc, "echo2", inputs, **to("rest")))
        check(f"{what}: gRPC → rest, which then is asked in binary", not isinstance(made, str), made)
        head = {
            "inputs": [
                {
                    "name": name,
                    "datatype": datatype,
                    "shape": [1, 1],
                    "parameters": {"binary_data_size": 4 if datatype == "FP32" else 5},
                }
                for name, (datatype, _) in inputs.items()
            ]
        }
        head = json.dumps(head).encode()
        tail = b"\0\0\xc0\x7f" if what == "NaN" else b"\x01\0\0\0\xff"
        headers = {"inference-header-content-length": str(len(head))}
        answer = world.ask("grpc", "/v2/models/echo2/infer", head + tail, "application/octet-stream", headers=headers)
        same(f"{what}: the answer would be none: 502", (502, True), error_of(answer))


def parts(answer):
    """The status, each output by itself, and the bytes behind the JSON by output."""
    status, fields, body = answer
    length = int(fields.get("inference-header-content-length", len(body)))
    told, rest, made = json.loads(body[:length]), body[length:], {}
    for output in told.pop("outputs", []):
        size = output.get("parameters", {}).get("binary_data_size", 0)
        made[output["name"]], rest = (output, rest[:size]), rest[size:]
    return status, told, made, rest


# ------------------------------------------------------------------------------------------------ errors


def prove_errors(world):
    section("errors have the status that Triton gives them, in the words of the client's protocol")
    wrong_shape = {"x": ("FP32", np.zeros((1, 3, 48, 191), dtype=np.float32))}
    wrong_type = {"x": ("FP64", np.zeros((1, 3, 48, 192)))}
    asked = {
        "no such model": ("none", TWO, {}),
        "no such version": ("echo2", TWO, {"model_version": "7"}),
        "a wrong shape": ("orientation", wrong_shape, {"outputs": []}),
        "a wrong datatype": ("orientation", wrong_type, {"outputs": []}),
        "another input": ("orientation", {"y": wrong_shape["x"]}, {"outputs": []}),
        "no such output": ("orientation", {"x": ("FP32", np.zeros((1, 3, 48, 192), dtype=np.float32))}, {"outputs": ["z"]}),
        "a model that fails": ("fails", {"X": ("FP32", np.zeros(1, dtype=np.float32))}, {"outputs": []}),
    }
    ways = [("HTTP", by_http, world.http, world.triton_http), ("gRPC", by_grpc, world.grpc, world.triton_grpc)]
    for what, (model, inputs, options) in asked.items():
        for client, by, through, direct in ways:
            if client == "gRPC":
                options = {"outputs": options.get("outputs") or None} | {k: v for k, v in options.items() if k != "outputs"}
            expected = outcome(lambda: by(direct, model, inputs, **options))
            for service in ("grpc", "rest", "binary"):
                seen = outcome(lambda: by(through, model, inputs, **options, **to(service)))
                same(f"{what}: {client} → {service}: {status_of(seen)}", expected, seen)


def prove_errors_by_hand(world):
    section("errors by hand: JSON of the protocol with the right status")
    good = {"inputs": [{"name": "IN_FP32", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}

    def changed(**members):
        return json.dumps({"inputs": [good["inputs"][0] | members]})

    infer = "/v2/models/echo2/infer"
    asked = {
        "no JSON": (infer, "{", 400),
        "nothing": (infer, "", 400),
        "no inputs": (infer, "{}", 400),
        "no datatype of the protocol": (infer, changed(datatype="FLOAT"), 400),
        "fewer elements than the shape has": (infer, changed(data=[1, 2]), 400),
        "more elements than the shape has": (infer, changed(data=[1, 2, 3, 4]), 400),
        "text for a number": (infer, changed(data=[1, 2, "3"]), 400),
        "a number that is too large": (infer, changed(data=[1, 2, 1e39]), 400),
        "FP16 in JSON": (infer, changed(name="IN_FP16", datatype="FP16"), 400),
        "no such model": ("/v2/models/none/infer", json.dumps(good), 404),
        "no such version": ("/v2/models/echo2/versions/8/infer", json.dumps(good), 404),
    }
    for what, (path, body, status) in asked.items():
        triton = world.ask_triton(path, body, JSON)
        seen = world.ask("grpc", path, body, JSON)
        same(f"{what}: {status} (Triton: {triton[0]})", (status, True), error_of(seen))
    body = json.dumps(good)
    for value in ("0", str(len(body) - 1), str(len(body) + 1), "-1", "x"):
        headers = {"inference-header-content-length": value}
        same(
            f"inference-header-content-length {value}: 400",
            (400, True),
            error_of(world.ask("grpc", infer, body, JSON, headers=headers)),
        )
    same("a method that the protocol has not: 405", (405, True), error_of(world.ask("grpc", infer, method="DELETE")))
    packed = gzip.compress(body.encode())
    seen = world.ask("grpc", infer, packed, JSON, headers={"content-encoding": "gzip"})
    same("a body that is compressed: 415", (415, True), error_of(seen))
    chunked = iter([body[:20].encode(), body[20:].encode()])
    same("a chunked body is read", 200, world.ask("grpc", infer, chunked, JSON)[0])


# ------------------------------------------------------------------------------------------------ health and metadata


def prove_health(world):
    section("health")
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/echo2/ready", "/v2/models/echo2/versions/1/ready"):
        for service in ("grpc", "rest", "binary"):
            same(f"GET {path} → {service}", world.ask_triton(path)[0], world.ask(service, path)[0])
        same(f"HEAD {path} → grpc", (200, b""), world.ask("grpc", path, method="HEAD")[::2])
    for path in ("/v2/models/none/ready", "/v2/models/echo2/versions/7/ready"):
        for service in ("grpc", "rest", "binary"):
            check(f"GET {path} → {service} is no success", world.ask(service, path)[0] >= 400, world.ask(service, path))
    calls = {
        "ServerLive": lambda c, **o: c.is_server_live(**o),
        "ServerReady": lambda c, **o: c.is_server_ready(**o),
        "ModelReady": lambda c, **o: c.is_model_ready("echo2", **o),
        "ModelReady of a version": lambda c, **o: c.is_model_ready("echo2", "1", **o),
        "ModelReady of no such model": lambda c, **o: c.is_model_ready("none", **o),
        "ModelReady of no such version": lambda c, **o: c.is_model_ready("echo2", "7", **o),
    }
    for what, call in calls.items():
        expected = outcome(lambda: call(world.triton_grpc))
        for service in ("grpc", "rest", "binary"):
            same(f"{what}: gRPC → {service}: {expected}", expected, outcome(lambda: call(world.grpc, **to(service))))


def prove_metadata(world):
    section("metadata")
    for path in ("/v2", "/v2/", "/v2/models/echo3", "/v2/models/orientation/versions/1", "/v2/models/none"):
        expected = answered(world.ask_triton(path))
        for service in ("grpc", "rest", "binary"):
            seen = answered(world.ask(service, path))
            # The tail slash is no path of Triton's, and the protocol's pages have it.
            same(f"GET {path} → {service}", (200, seen[1]) if path == "/v2/" and service == "grpc" else expected, seen)
    calls = {
        "ServerMetadata": lambda c, **o: c.get_server_metadata(**o),
        "ModelMetadata": lambda c, **o: c.get_model_metadata("echo3", **o),
        "ModelMetadata of a version": lambda c, **o: c.get_model_metadata("orientation", "1", **o),
        "ModelMetadata of no such model": lambda c, **o: c.get_model_metadata("none", **o),
    }
    for what, call in calls.items():
        expected = outcome(lambda: call(world.triton_grpc))
        for service in ("grpc", "rest", "binary"):
            seen = outcome(lambda: call(world.grpc, **to(service)))
            same(f"{what}: gRPC → {service}", expected, seen)
    same(
        "ModelConfig, which REST has no words for: gRPC → rest",
        "error StatusCode.UNIMPLEMENTED",
        status_of(outcome(lambda: world.grpc.get_model_config("echo2", **to("rest")))),
    )


def answered(answer):
    status, _, body = answer
    return status, json.loads(body) if body else None


# ------------------------------------------------------------------------------------------------ protobuf by HTTP


def prove_protobuf(world):
    section("a serialized ModelInferRequest by HTTP")
    asked = service_pb2.ModelInferRequest(model_name="whatever", id="p1", raw_input_contents=[X.tobytes()])
    asked.inputs.add(name="IN_FP32", datatype="FP32", shape=X.shape)
    for service in ("grpc", "rest", "binary"):
        for kind in ("application/x-protobuf", "application/protobuf"):
            status, fields, body = world.ask(service, "/", asked.SerializeToString(), kind, headers={"accept": kind})
            told = service_pb2.ModelInferResponse.FromString(body) if status == 200 else body
            expected = ("echo2", "p1", {"name": "OUT_FP32", "datatype": "FP32", "shape": ["1", "3"]}, X.tobytes())
            seen = status == 200 and (told.model_name, told.id, MessageToDict(told.outputs[0]), told.raw_output_contents[0])
            check(f"{kind} in and out → {service}", seen == expected and fields["content-type"] == "application/x-protobuf", told)
        answer = world.ask(service, "/", asked.SerializeToString(), "application/x-protobuf")
        check(f"JSON out → {service}", json.loads(answer[2])["outputs"][0]["data"] == X.ravel().tolist(), answer)
        answer = world.ask(service, "/", asked.SerializeToString(), kind, headers={"accept": "application/octet-stream"})
        check(f"binary out → {service}", (of_binary(answer)[1].get("OUT_FP32") == X).all(), answer)
        same(f"no message → {service}", 400, world.ask(service, "/", b"\xff\xff", "application/x-protobuf")[0])
