"""scripts/proof inference: a server that reads `TensorRequest` by HTTP, with the messages that grpcio-tools makes of
proto/tensor.proto."""

import json
import os
import sys

import numpy as np

from inference_asking import by_grpc, error_of, form, of_binary, outcome, status_of, to
from inference_images import BINARY, encoded, near, picture, plain
from triton import check, same, section

sys.path.insert(0, os.environ["PROOF_DIR"])


def prove(world):
    section("TensorRequest by HTTP")
    images = [picture(number) for number in range(3)]
    data = encoded(images[0], "png")
    told, arrays = of_binary(world.ask("tensor", "/x", data, "image/png", headers=BINARY))
    near("an image", "png", arrays.get("y"), plain(data)[None])
    parts = [encoded(image, "jpeg") for image in images]
    kind, body = form([("f", "x", "image/jpeg", image) for image in parts])
    _, arrays = of_binary(world.ask("tensor", "/", body, kind, headers=BINARY))
    near("three in a form", "jpeg", arrays.get("y"), np.stack([plain(image) for image in parts]))

    numbers = np.random.default_rng(5).normal(size=(1, 1000)).astype(np.float32)
    total = numbers.sum(axis=1, dtype=np.float32)
    status, _, body = world.ask("sums", "/", numbers.tobytes(), "application/octet-stream")
    told = json.loads(body)["outputs"] if status == 200 else body
    check(
        "raw numbers, answered in JSON", status == 200 and told[0]["shape"] == [1] and np.float32(told[0]["data"]) == total, told
    )
    asked = json.dumps({"id": "7", "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1000], "data": numbers.tolist()}]})
    status, _, body = world.ask("sums", "/v2/models/sums/infer", asked, "application/json")
    told = json.loads(body) if status == 200 else body
    is_right = (
        status == 200
        and told["id"] == "7"
        and told["outputs"][0]["name"] == "y"
        and np.float32(told["outputs"][0]["data"]) == total
    )
    check("a request of the protocol", is_right, told)
    two = json.dumps({"inputs": [{"name": name, "datatype": "FP32", "shape": [1, 1], "data": [1]} for name in "xy"]})
    same("two tensors: 400", (400, True), error_of(world.ask("sums", "/v2/models/sums/infer", two, "application/json")))
    wrong = json.dumps({"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 1], "data": [1]}]})
    same("another datatype: 400", (400, True), error_of(world.ask("sums", "/v2/models/sums/infer", wrong, "application/json")))
    same("metadata, which the server has not: 404", (404, True), error_of(world.ask("sums", "/v2/models/sums")))
    inputs = {"x": ("FP32", numbers)}
    same(
        "a call of gRPC: UNIMPLEMENTED",
        "error StatusCode.UNIMPLEMENTED",
        status_of(outcome(lambda: by_grpc(world.grpc, "sums", inputs, **to("sums")))),
    )
