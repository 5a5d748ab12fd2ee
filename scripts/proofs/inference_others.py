"""scripts/proof inference: MLServer and KServe, other readings of the protocol."""

import json

import numpy as np
import tritonclient.grpc
import tritonclient.http

from inference_asking import by_grpc, by_http, outcome, status_of, to
from inference_servers import DATATYPES, SERVICE
from inference_values import shape_of, tensor
from triton import check, same, section

#: tritonclient does not say it, and KServe takes what is not said for binary.
JSON = {"Content-Type": "application/json"}
#: Neither reads the binary extension as Triton does: JSON is what they are asked with, and what JSON can say.
IN_JSON = [datatype for datatype in DATATYPES if datatype not in ("FP16", "BF16")]


def prove(world):
    for server in world.others:
        section(f"{server.name}: JSON in, gRPC out; gRPC in, JSON out")
        http = tritonclient.http.InferenceServerClient(server.address)
        grpc = tritonclient.grpc.InferenceServerClient(server.grpc_address)
        prove_values(world, server.name, http, grpc)
        prove_health(world, server.name, http, grpc)
        prove_errors(world, server, http, grpc)


def prove_values(world, name, http, grpc):
    random = np.random.default_rng(23)
    for datatype in IN_JSON:
        asked = [{f"IN_{datatype}": (datatype, tensor(random, datatype, shape_of(random, rank), True))} for rank in (1, 2, 3, 2)]
        for client, by, through, direct, service, model in ways(world, name, http, grpc):
            options = {"binary": False} if by is by_http else {}
            fields = JSON if by is by_http else {}
            right, first = 0, ""
            for number, inputs in enumerate(asked):
                expected = outcome(lambda: by(direct, "echo", inputs, request_id=f"r{number}", **options, headers=fields))
                seen = outcome(
                    lambda: by(through, model, inputs, request_id=f"r{number}", **options, headers=fields | {SERVICE: service})
                )
                is_right = plainly(expected) == plainly(seen) and not isinstance(seen, str)
                right += is_right
                first = first or ("" if is_right else f"expected {str(expected)[:500]}, saw {str(seen)[:500]}")
            check(f"{datatype}: {client} → {service}, {model}: {right} of {len(asked)} alike", right == len(asked), first)


def ways(world, name, http, grpc):
    made = [
        ("JSON", by_http, world.http, http, f"{name}-grpc", "echo"),
        ("JSON", by_http, world.http, http, f"{name}-rest", "echo"),
        ("gRPC", by_grpc, world.grpc, grpc, f"{name}-grpc", "echo"),
        ("gRPC", by_grpc, world.grpc, grpc, f"{name}-rest", "echo"),
    ]
    if name == "kserve":
        made.append(("JSON", by_http, world.http, http, "kserve-grpc", "typed"))
    return made


def plainly(made):
    """Without what these servers say by one protocol and not by the other: versions, and parameters of their own. The name is
    another for `typed`."""
    if isinstance(made, str):
        return made
    told, arrays = made
    return {name: value for name, value in told.items() if name not in ("model_name", "model_version", "parameters")}, arrays


def prove_health(world, name, http, grpc):
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/echo/ready"):
        for service in (f"{name}-grpc", f"{name}-rest"):
            same(f"GET {path} → {service}", 200, world.ask(service, path)[0])
    for path in ("/v2", "/v2/models/echo"):
        status, _, body = world.ask(f"{name}-grpc", path)
        told = json.loads(body) if status == 200 else {}
        check(f"GET {path} → {name}-grpc: {told.get('name')}", told.get("name") in ("echo", "mlserver", "kserve"), body)
    calls = {
        "ServerLive": lambda c, **o: c.is_server_live(**o),
        "ServerReady": lambda c, **o: c.is_server_ready(**o),
        "ModelReady": lambda c, **o: c.is_model_ready("echo", **o),
        "ServerMetadata": lambda c, **o: c.get_server_metadata(**o).name,
        "ModelMetadata": lambda c, **o: c.get_model_metadata("echo", **o).name,
    }
    for what, call in calls.items():
        same(f"{what}: gRPC → {name}-rest", outcome(lambda: call(grpc)), outcome(lambda: call(world.grpc, **to(f"{name}-rest"))))


def prove_errors(world, server, http, grpc):
    name = server.name
    x = {"IN_FP32": ("FP32", np.ones((1, 2), dtype=np.float32))}
    fails = {"fail": ("FP32", np.ones((1, 2), dtype=np.float32))}
    for what, model, inputs in [("no such model", "none", x), ("a model that fails", "echo", fails)]:
        by_json = {"binary": False, "outputs": []}
        expected = outcome(lambda: by_http(http, model, inputs, **by_json, headers=JSON))
        seen = outcome(lambda: by_http(world.http, model, inputs, **by_json, headers=JSON | {SERVICE: f"{name}-rest"}))
        same(f"{what}: JSON → {name}-rest: {status_of(seen)}", expected, seen)
        by_call = outcome(lambda: by_grpc(grpc, model, inputs))
        same(
            f"{what}: gRPC → {name}-grpc: {status_of(by_call)}",
            by_call,
            outcome(lambda: by_grpc(world.grpc, model, inputs, **to(f"{name}-grpc"))),
        )
        seen = outcome(lambda: by_http(world.http, model, inputs, **by_json, **to(f"{name}-grpc")))
        check(f"{what}: JSON → {name}-grpc: {seen}", isinstance(seen, str) and seen[:7] in ("error 4", "error 5"), seen)
        seen = outcome(lambda: by_grpc(world.grpc, model, inputs, **to(f"{name}-rest")))
        check(f"{what}: gRPC → {name}-rest: {seen}", isinstance(seen, str) and "StatusCode" in seen, seen)
