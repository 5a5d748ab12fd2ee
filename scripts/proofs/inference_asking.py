"""How the proofs of scripts/proof inference ask: tritonclient by both protocols, and HTTP by hand; and in what form
answers are compared."""

import http.client
import json

import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

from inference_servers import SERVICE


class World:
    """The servers, the gateway, and a client for each way to them."""

    def __init__(self, gateway, triton, tensors, others):
        self.gateway, self.triton, self.tensors, self.others = gateway, triton, tensors, others
        self.http = tritonclient.http.InferenceServerClient(gateway.address)
        self.grpc = tritonclient.grpc.InferenceServerClient(gateway.address)
        self.triton_http = tritonclient.http.InferenceServerClient(triton.address)
        self.triton_grpc = tritonclient.grpc.InferenceServerClient(triton.grpc_address)

    def ask(self, service, path="/", body=None, content_type=None, method=None, headers=None):
        """By hand: status, fields and body."""
        headers = dict(headers or {}) | {SERVICE: service}
        return exchange(self.gateway.port, path, body, content_type, method, headers)

    def ask_triton(self, path, body=None, content_type=None, method=None, headers=None):
        return exchange(self.triton.port, path, body, content_type, method, headers)


def exchange(port, path, body=None, content_type=None, method=None, headers=None):
    headers = dict(headers or {}) | ({"content-type": content_type} if content_type else {})
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method or ("GET" if body is None else "POST"), path, body=body, headers=headers)
    answer = connection.getresponse()
    made = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    connection.close()
    return made


def to(service):
    """The field that leads there."""
    return {"headers": {SERVICE: service}}


# ------------------------------------------------------------------------------------------------ inferences by the protocol


def by_http(client, model, inputs, binary=True, outputs=None, **options):
    """`inputs`: datatype and array by name."""
    made = []
    for name, (datatype, array) in inputs.items():
        tensor = tritonclient.http.InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array, binary_data=binary)
        made.append(tensor)
    outputs = outputs if outputs is not None else [name.replace("IN_", "OUT_") for name in inputs]
    wanted = [tritonclient.http.InferRequestedOutput(name, binary_data=binary) for name in outputs]
    answer = client.infer(model, made, outputs=wanted, **options)
    return comparable(answer, answer.get_response())


def by_grpc(client, model, inputs, outputs=None, **options):
    made, wanted = [], None
    for name, (datatype, array) in inputs.items():
        tensor = tritonclient.grpc.InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array)
        made.append(tensor)
    if outputs is not None:
        wanted = [tritonclient.grpc.InferRequestedOutput(name) for name in outputs]
    answer = client.infer(model, made, outputs=wanted, **options)
    return comparable(answer, answer.get_response(as_json=True))


def comparable(answer, told):
    """All that an answer says, and its arrays, by name: the protocol does not say in which order outputs come."""
    arrays = {}
    for output in told.get("outputs", []):
        array = answer.as_numpy(output["name"])
        arrays[output["name"]] = array.shape, str(array.dtype), array.tolist() if array.dtype == object else array.tobytes()
    outputs = sorted((output["name"], output["datatype"], [int(side) for side in output["shape"]]) for output in told["outputs"])
    parameters = {name: value for name, value in (told.get("parameters") or {}).items() if value}
    said = {name: told.get(name) for name in ("model_name", "model_version", "id")}
    return {"outputs": outputs, "parameters": parameters, **said}, arrays


def outcome(action):
    """What the client made of it: a result, or the error that it raised."""
    try:
        return action()
    except InferenceServerException as error:
        return f"error {error.status()}: {error.message().strip()}"
    except Exception as error:  # of the client, at an answer that it cannot read
        return f"error {type(error).__name__}: {error}"


def status_of(made):
    """Of an error; whatever its words."""
    return made.split(": ")[0] if isinstance(made, str) else made


# ------------------------------------------------------------------------------------------------ bodies by hand


def of_binary(answer):
    """JSON and arrays by name of an answer with the binary extension."""
    status, fields, body = answer
    if status != 200:
        return f"{status} {body[:200]!r}", {}
    length = int(fields["inference-header-content-length"])
    told, rest, arrays = json.loads(body[:length]), body[length:], {}
    for output in told["outputs"]:
        size = output["parameters"]["binary_data_size"]
        data, rest = rest[:size], rest[size:]
        arrays[output["name"]] = of_bytes(output["datatype"], output["shape"], data)
    return told, arrays


def of_bytes(datatype, shape, data):
    if datatype == "BYTES":
        elements = []
        while data:
            length = int.from_bytes(data[:4], "little")
            elements.append(data[4 : 4 + length])
            data = data[4 + length :]
        return elements
    kinds = {"FP": "f", "IN": "i", "UI": "u", "BO": "?"}
    digits = "".join(char for char in datatype if char.isdigit())
    kind = kinds[datatype[:2]] + (str(int(digits) // 8) if digits else "")
    return np.frombuffer(data, dtype=np.dtype(kind).newbyteorder("<") if digits else kind).reshape(shape)


def form(parts):
    """multipart/form-data of (name, file name, content type, bytes): content type and body."""
    boundary = "----proof7d31"
    body = b""
    for name, file, content_type, data in parts:
        file = f'; filename="{file}"' if file else ""
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n'
        head += f"Content-Type: {content_type}\r\n" if content_type else ""
        body += head.encode() + b"\r\n" + data + b"\r\n"
    return f"multipart/form-data; boundary={boundary}", body + f"--{boundary}--\r\n".encode()


def error_of(answer):
    """Status, and whether the body is `{"error": "..."}` and nothing else."""
    status, fields, body = answer
    try:
        told = json.loads(body)
        is_shaped = list(told) == ["error"] and isinstance(told["error"], str) and told["error"] != ""
    except ValueError:
        is_shaped = False
    return status, is_shaped and fields.get("content-type", "").startswith("application/json")
