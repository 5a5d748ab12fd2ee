"""The model servers of scripts/proof inference, each with models that are easy to foresee, and the gateway before them."""

import os
import shutil
import sys
import sysconfig
from pathlib import Path

import triton as shared
from triton import DIR, TIDEGATE, free_port, get, spawn, wait_until

HERE = Path(__file__).parent
#: How Triton's models call what the protocol calls otherwise.
TRITON_TYPES = {"BYTES": "STRING"}
DATATYPES = [
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
    "BYTES",
    "BF16",
]
#: Of the echo models: `echo3` takes tensors of three dimensions.
RANKS = range(1, 5)

# ------------------------------------------------------------------------------------------------ Triton's models

ECHO = """
import triton_python_backend_utils as pb

class TritonPythonModel:
    def execute(self, requests):
        return [pb.InferenceResponse(list(self.outputs(request))) for request in requests]

    def outputs(self, request):
        wanted = request.requested_output_names()
        for tensor in request.inputs():
            name = tensor.name().replace("IN_", "OUT_")
            if name in wanted and name == "OUT_BF16":
                yield pb.Tensor.from_dlpack(name, tensor.to_dlpack())
            elif name in wanted:
                yield pb.Tensor(name, tensor.as_numpy())
"""

#: An ONNX model, asked with whatever batch comes.
ONNX = """
import onnxruntime
import triton_python_backend_utils as pb

class TritonPythonModel:
    def initialize(self, args):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession({file!r}, options, providers=["CPUExecutionProvider"])

    def execute(self, requests):
        return [self.answer(pb.get_input_tensor_by_name(request, {input!r}).as_numpy()) for request in requests]

    def answer(self, batch):
        scores = self.session.run(None, {{{input!r}: batch}})[0]
        return pb.InferenceResponse([pb.Tensor({output!r}, scores)])
"""

FAILS = """
import triton_python_backend_utils as pb

class TritonPythonModel:
    def execute(self, requests):
        return [pb.InferenceResponse(error=pb.TritonError('no "luck" today: 100 % \\u00fc')) for _ in requests]
"""


def site():
    return Path(sysconfig.get_path("purelib"))


def orientation_file():
    """Of rapidocr: whether a line of text stands on its head. N x 3 x 48 x 192, blue first."""
    return site() / "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx"


def magika_folder():
    """What a file is, by 2,048 of its bytes."""
    return site() / "magika/models/standard_v3_3"


def echo_config(rank):
    def tensor(direction, datatype):
        optional = " optional: true" if direction == "IN" else ""
        data_type = f"TYPE_{TRITON_TYPES.get(datatype, datatype)}"
        return f'{{ name: "{direction}_{datatype}" data_type: {data_type} dims: [ {", ".join(["-1"] * rank)} ]{optional} }}'

    def tensors(direction):
        return ", ".join(tensor(direction, datatype) for datatype in DATATYPES)

    return f"input [ {tensors('IN')} ] output [ {tensors('OUT')} ]"


def one_to_one(takes, gives):
    def tensor(name, data_type, dims):
        return f'{{ name: "{name}" data_type: TYPE_{data_type} dims: {dims} }}'

    return f"input [ {tensor(*takes)} ] output [ {tensor(*gives)} ]"


def triton_models():
    """Name, config and code of each."""
    for rank in RANKS:
        yield f"echo{rank}", echo_config(rank), ECHO
    of = dict(file=str(orientation_file()), input="x", output="save_infer_model/scale_0.tmp_1")
    yield "orientation", one_to_one(("x", "FP32", [-1, 3, 48, 192]), (of["output"], "FP32", [-1, 2])), ONNX.format(**of)
    of = dict(file=str(magika_folder() / "model.onnx"), input="bytes", output="target_label")
    yield "magika", one_to_one(("bytes", "INT32", [-1, 2048]), ("target_label", "FP32", [-1, 214])), ONNX.format(**of)
    yield "fails", one_to_one(("X", "FP32", [-1]), ("Y", "FP32", [-1])), FAILS


class Triton(shared.Server):
    def __init__(self):
        self.name = "inference"
        self.port, self.grpc_port = free_port(), free_port()
        self.address, self.grpc_address = f"127.0.0.1:{self.port}", f"127.0.0.1:{self.grpc_port}"
        self.models = DIR / "models"
        shutil.rmtree(self.models, ignore_errors=True)
        for name, config, code in triton_models():
            folder = self.models / name / "1"
            folder.mkdir(parents=True)
            group = "instance_group [ { kind: KIND_CPU count: 1 } ]"
            (folder.parent / "config.pbtxt").write_text(f'name: "{name}"\nbackend: "python"\n{config}\n{group}\n')
            (folder / "model.py").write_text(code)


# ------------------------------------------------------------------------------------------------ the other servers


class Other:
    """A server in a venv of its own, that speaks REST and gRPC."""

    def __init__(self, name):
        self.name = name
        self.port, self.grpc_port = free_port(), free_port()
        self.address, self.grpc_address = f"127.0.0.1:{self.port}", f"127.0.0.1:{self.grpc_port}"
        self.bin = DIR / f"venv-{name}" / "bin"

    def wait_ready(self):
        wait_until(f"{self.name} is ready", 90, lambda: get(self.port, "/v2/models/echo/ready") == 200)


class MLServer(Other):
    def __init__(self):
        super().__init__("mlserver")

    def start(self):
        folder = DIR / "mlserver"
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "echo").mkdir(parents=True)
        shutil.copy(HERE / "inference_mlserver.py", folder / "echo" / "echo_runtime.py")
        (folder / "echo" / "model-settings.json").write_text('{"name": "echo", "implementation": "echo_runtime.Echo"}')
        (folder / "settings.json").write_text(f"""{{
            "host": "127.0.0.1", "http_port": {self.port}, "grpc_port": {self.grpc_port}, "metrics_port": {free_port()},
            "parallel_workers": 0, "grpc_max_message_length": 104857600
        }}""")
        environment = dict(os.environ) | {"PYTHONPATH": str(folder / "echo")}
        command = [str(self.bin / "mlserver"), "start", str(folder)]
        self.process = spawn("mlserver", command, env=environment, cwd=folder)


class KServe(Other):
    def __init__(self):
        super().__init__("kserve")

    def start(self):
        # Alone in a folder: Python looks for what a script imports beside it.
        folder = DIR / "kserve"
        folder.mkdir(exist_ok=True)
        shutil.copy(HERE / "inference_kserve.py", folder)
        ports = [f"--http_port={self.port}", f"--grpc_port={self.grpc_port}"]
        self.process = spawn("kserve", [str(self.bin / "python"), str(folder / "inference_kserve.py"), *ports])


class TensorServer:
    """`TensorRequest` of proto/tensor.proto by HTTP."""

    def __init__(self):
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"

    def start(self):
        self.process = spawn("tensor", [sys.executable, str(HERE / "inference_tensor_server.py"), str(self.port)])

    def wait_ready(self):
        wait_until("the server of tensors is ready", 10, lambda: get(self.port, "/health") == 200)


# ------------------------------------------------------------------------------------------------ the gateway

#: Requests say by this field which of the services they are for.
SERVICE = "x-service"


class Gateway:
    def __init__(self, services):
        """`services`: text of TOML by name, `endpoints` and all."""
        self.port, self.admin_port = free_port(), free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.file = DIR / "gateway.toml"
        text = "".join(f"\n[service.s-{name}]\n{service}\n" for name, service in services.items())
        first = next(iter(services))
        self.file.write_text(f"""
driver = "{os.environ.get("PROOF_DRIVER", "auto")}"
limits = {{ body = "64MiB" }}

[listen.web]
address = "{self.address}"

[admin]
address = "127.0.0.1:{self.admin_port}"

[log]
access = "access.log"
{text}
[[route]]
name      = "all"
match     = {{ path = "/**" }}
to        = "s-{{header:{SERVICE}}}"
otherwise = "s-{first}"
""")

    def start(self):
        self.process = spawn("gateway", [TIDEGATE, "run", "-c", str(self.file)])
        wait_until("the gateway is ready", 10, lambda: get(self.admin_port, "/readyz") == 200)

    def resident_mib(self):
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1]) / 1024

    metrics = shared.Gateway.metrics
