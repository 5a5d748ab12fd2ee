"""Drives Tidegate before two real Triton servers with NVIDIA's own client, and compares every answer with the one
that the client gets from Triton itself. Started by scripts/proof triton; TIDEGATE and PROOF_DIR say where things are.

The servers hold the same models in two versions: "stable" has version 1, "v2" has version 2. So each answer proves
which server gave it.
"""

import http.client
import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import gevent.pool
import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

DIR = Path(os.environ["PROOF_DIR"])
TIDEGATE = os.environ["TIDEGATE"]
SHM_PREFIX = f"tidegate_proof_{os.getpid()}_"
MIB = 1024 * 1024
INPUTS = 64

# ------------------------------------------------------------------------------------------------ the models

CONFIGS = {
    # A linear classifier with softmax and a text label.
    "iris": """
backend: "python"
input [ { name: "X" data_type: TYPE_FP32 dims: [ -1, 4 ] } ]
output [ { name: "P" data_type: TYPE_FP32 dims: [ -1, 3 ] }, { name: "LABEL" data_type: TYPE_STRING dims: [ -1 ] } ]
instance_group [ { kind: KIND_CPU count: 2 } ]
""",
    # As much out as in, for large tensors.
    "affine": """
backend: "python"
input [ { name: "X" data_type: TYPE_FP32 dims: [ -1, -1 ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ -1, -1 ] } ]
instance_group [ { kind: KIND_CPU count: 2 } ]
""",
    # A stream of answers, 50 ms apart.
    "tokens": """
backend: "python"
model_transaction_policy { decoupled: true }
input [ { name: "count" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "token" data_type: TYPE_STRING dims: [ 1 ] } ]
instance_group [ { kind: KIND_CPU count: 1 } ]
""",
}

HEAD = """
import time
import numpy as np
import triton_python_backend_utils as pb

def of(request, name):
    return pb.get_input_tensor_by_name(request, name).as_numpy()
"""

CODE = {
    "iris": """
class TritonPythonModel:
    def initialize(self, args):
        random = np.random.default_rng(int(args["model_version"]))
        self.weights = random.normal(size=(4, 3)).astype(np.float32)
        self.labels = np.array([b"setosa", b"versicolor", b"virginica"], dtype=object)

    def execute(self, requests):
        return [self.answer(of(request, "X")) for request in requests]

    def answer(self, x):
        scores = x @ self.weights
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
        return pb.InferenceResponse([pb.Tensor("P", shares), pb.Tensor("LABEL", self.labels[shares.argmax(axis=1)])])
""",
    "affine": """
class TritonPythonModel:
    def initialize(self, args):
        self.factor = np.float32(1.5 * int(args["model_version"]))

    def execute(self, requests):
        return [pb.InferenceResponse([pb.Tensor("Y", of(request, "X") * self.factor + np.float32(0.25))]) for request in requests]
""",
    "tokens": """
class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            for number in range(int(of(request, "count")[0])):
                token = np.array([f"token {number}".encode()], dtype=object)
                sender.send(pb.InferenceResponse([pb.Tensor("token", token)]))
                time.sleep(0.05)
            sender.send(flags=pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
""",
}


def write_models(repository, version):
    shutil.rmtree(repository, ignore_errors=True)
    for name, config in CONFIGS.items():
        folder = repository / name / str(version)
        folder.mkdir(parents=True)
        (folder.parent / "config.pbtxt").write_text(f'name: "{name}"\nversion_policy: {{ all: {{}} }}{config}')
        (folder / "model.py").write_text(HEAD + CODE[name])


# ------------------------------------------------------------------------------------------------ the processes

STARTED = []


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def spawn(name, command, **options):
    """In a session of its own, so that it can be ended with its children and nothing else."""
    with open(DIR / f"{name}.log", "ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **options
        )
    STARTED.append(process)
    return process


def end(process, how, patience_s=20):
    """Ends the process and its children; what is left after the patience is killed."""
    if process.poll() is None:
        os.killpg(process.pid, how)
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class Server:
    def __init__(self, name, version):
        self.name, self.version = name, version
        self.port, self.grpc_port = free_port(), free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.grpc_address = f"127.0.0.1:{self.grpc_port}"
        self.models = DIR / f"models-{name}"
        write_models(self.models, version)

    def start(self):
        site = Path(sysconfig.get_path("purelib"))
        home = site / "pytriton" / "tritonserver"
        stub = home / "backends" / "python" / "triton_python_backend_stub"
        if not stub.exists():
            shutil.copy(home / "python_backend_stubs" / f"{sys.version_info[0]}.{sys.version_info[1]}" / stub.name, stub)
        environment = dict(os.environ)
        environment["LD_LIBRARY_PATH"] = f"{sysconfig.get_config_var('LIBDIR')}:{site / 'nvidia_pytriton.libs'}"
        # The python backend finds its packages beside the python3 of the PATH.
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
        command = [
            home / "bin" / "tritonserver",
            f"--id={self.name}",
            f"--model-repository={self.models}",
            f"--backend-directory={home / 'backends'}",
            f"--backend-config=python,shm-region-prefix-name={SHM_PREFIX}{self.name}",
            "--http-address=127.0.0.1",
            f"--http-port={self.port}",
            "--grpc-address=127.0.0.1",
            f"--grpc-port={self.grpc_port}",
            "--allow-metrics=false",
        ]
        self.process = spawn(f"triton-{self.name}", [str(part) for part in command], env=environment)

    def wait_ready(self):
        wait_until(f"Triton {self.name} is ready", 60, lambda: get(self.port, "/v2/health/ready") == 200)


class Gateway:
    def __init__(self, servers):
        self.servers = servers
        self.port, self.admin_port = free_port(), free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.file = DIR / "gateway.toml"
        self.log = DIR / "access.log"

    def configure(self, otherwise, mistake=""):
        services = "\n".join(
            f'[service.model-service-{server.name}]\nendpoints = ["{server.address}"]' for server in self.servers
        )
        new = self.file.with_suffix(".new")
        new.write_text(f"""
driver = "{os.environ.get("PROOF_DRIVER", "auto")}"

[listen.web]
address = "{self.address}"

[admin]
address = "127.0.0.1:{self.admin_port}"

[log]
access = "access.log"

{services}

[[route]]
name       = "large"
match      = {{ path = "/v2/models/affine/**" }}
to         = "model-service-{{header:x-model-version}}"
otherwise  = "model-service-{otherwise}"
body_limit = "64MiB"

[[route]]
name      = "models"
match     = {{ path = "/v2/**" }}
to        = "model-service-{{header:x-model-version}}"
otherwise = "model-service-{otherwise}"
{mistake}
""")
        new.rename(self.file)

    def start(self):
        self.log.unlink(missing_ok=True)
        self.process = spawn("gateway", [TIDEGATE, "run", "-c", str(self.file)])
        wait_until("the gateway is ready", 10, lambda: get(self.admin_port, "/readyz") == 200)

    def reload(self):
        """True when it took the new configuration, False when it refused."""
        before = self.metrics("tidegate_config_reloads_total")
        generation = self.metrics("tidegate_config_generation")
        self.process.send_signal(signal.SIGHUP)
        wait_until("the gateway answers SIGHUP", 5, lambda: self.metrics("tidegate_config_reloads_total") > before)
        return self.metrics("tidegate_config_generation") > generation

    def metrics(self, name, label=""):
        """The sum of the series of that name that carry the label."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=5)
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
        connection.close()
        series = [line for line in lines if line.split("{")[0].split(" ")[0] == name and label in line]
        return sum(float(line.rsplit(" ", 1)[1]) for line in series)


def get(port, path):
    """The status, or None when nobody answers."""
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        connection.request("GET", path)
        status = connection.getresponse().status
        connection.close()
        return status
    except OSError:
        return None


def wait_until(what, seconds, is_true):
    until = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > until:
            raise RuntimeError(f"not within {seconds} s: {what}")
        time.sleep(0.05)


# ------------------------------------------------------------------------------------------------ what is counted

PASSED = FAILED = 0


def check(what, is_true, detail=""):
    global PASSED, FAILED
    PASSED, FAILED = PASSED + bool(is_true), FAILED + (not is_true)
    print(("PASS " if is_true else "FAIL ") + what + ("" if is_true or not detail else f": {detail}"))


def same(what, expected, seen):
    check(what, expected == seen, f"expected {str(expected)[:300]}, saw {str(seen)[:300]}")


def section(title):
    print(f"\n== {title}")


# ------------------------------------------------------------------------------------------------ inferences

VERSION = "x-model-version"


def tensor(array, binary, name="X"):
    made = triton.InferInput(name, list(array.shape), "FP32")
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def infer(client, model, array, binary_in=True, binary_out=True, **options):
    """The whole answer in a form that can be compared: its JSON, and the bytes of each output."""
    outputs = [
        triton.InferRequestedOutput(name, binary_data=binary_out)
        for name in {"iris": ["P", "LABEL"], "affine": ["Y"]}[model]
    ]
    return comparable(client.infer(model, [tensor(array, binary_in)], outputs=outputs, **options))


def comparable(result):
    answer = result.get_response()
    tensors = {output["name"]: result.as_numpy(output["name"]) for output in answer["outputs"]}
    return json.dumps(answer, sort_keys=True), {
        name: (array.shape, array.tolist() if array.dtype == object else array.tobytes()) for name, array in tensors.items()
    }


def outcome(action):
    """What the client made of it: a result, or the error that it raised."""
    try:
        return action()
    except InferenceServerException as error:
        return f"error {error.status()}: {error.message()}"


def iris_inputs():
    return np.random.default_rng(7).normal(size=(INPUTS, 2, 4)).astype(np.float32)


def prove_single_calls(direct, through):
    section("what tritonclient can ask: the answer through the gateway is the one that Triton gives")
    calls = {
        "server live": lambda c, **o: c.is_server_live(**o),
        "server ready": lambda c, **o: c.is_server_ready(**o),
        "server metadata": lambda c, **o: c.get_server_metadata(**o),
        "model ready": lambda c, **o: c.is_model_ready("iris", **o),
        "model ready, no such model": lambda c, **o: c.is_model_ready("none", **o),
        "model metadata": lambda c, **o: c.get_model_metadata("iris", **o),
        "model config": lambda c, **o: c.get_model_config("iris", **o),
        "model config, no such model": lambda c, **o: c.get_model_config("none", **o),
        "repository index": lambda c, **o: c.get_model_repository_index(**o),
        "trace settings": lambda c, **o: c.get_trace_settings(**o),
        "shared memory status": lambda c, **o: c.get_system_shared_memory_status(**o),
        "loading a model, which is not allowed": lambda c, **o: c.load_model("iris", **o),
    }
    for name, server in direct.items():
        for what, call in calls.items():
            expected = outcome(lambda: call(server))
            same(f"{name}: {what}", expected, outcome(lambda: call(through, headers={VERSION: name})))
    same("without the header: stable", "stable", through.get_server_metadata()["name"])
    for value in ["none", "", "v2 ", "V2", "../v2"]:
        expected = "v2" if value.strip() == "v2" else "stable"
        seen = through.get_server_metadata(headers={VERSION: value})["name"]
        same(f"{VERSION} {value!r}: {expected}", expected, seen)


def prove_inferences(direct, through):
    section("inferences: JSON and binary, each way, both versions")
    x = iris_inputs()[0]
    for name, server in direct.items():
        for binary_in in (False, True):
            for binary_out in (False, True):
                form = f"{'binary' if binary_in else 'JSON'} in, {'binary' if binary_out else 'JSON'} out"
                expected = infer(server, "iris", x, binary_in, binary_out)
                same(f"{name}: {form}", expected, infer(through, "iris", x, binary_in, binary_out, headers={VERSION: name}))
        version = json.loads(expected[0])["model_version"]
        same(f"{name}: answered by its version", str({"stable": 1, "v2": 2}[name]), version)
        for algorithm in ("gzip", "deflate"):
            options = dict(request_compression_algorithm=algorithm, response_compression_algorithm=algorithm)
            expected = infer(server, "iris", x, **options)
            same(f"{name}: {algorithm} both ways", expected, infer(through, "iris", x, headers={VERSION: name}, **options))
        options = dict(request_id="proof-1", sequence_id=5, sequence_start=True, priority=1, timeout=1000000)
        expected = outcome(lambda: infer(server, "iris", x, **options))
        same(f"{name}: id, sequence, priority", expected, outcome(lambda: infer(through, "iris", x, headers={VERSION: name}, **options)))
        wrong = np.zeros((2, 5), dtype=np.float32)
        expected = outcome(lambda: infer(server, "iris", wrong))
        same(f"{name}: a wrong shape is {expected[:9]}", expected, outcome(lambda: infer(through, "iris", wrong, headers={VERSION: name})))
    expected = outcome(lambda: infer(direct["stable"], "iris", x, model_version="2"))
    same("a version that the server lacks", expected, outcome(lambda: infer(through, "iris", x, model_version="2")))
    empty = np.zeros((0, 4), dtype=np.float32)
    expected = outcome(lambda: infer(direct["stable"], "iris", empty))
    same("a tensor without elements", expected, outcome(lambda: infer(through, "iris", empty)))


def exchange(port, body, headers, path="/v2/models/iris/infer"):
    """One request without a client library: the status, the head without what may differ, and the body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", path, body=body, headers=headers, encode_chunked=not isinstance(body, bytes))
    answer = connection.getresponse()
    head = sorted((name.lower(), value) for name, value in answer.getheaders() if name.lower() != "x-request-id")
    read = answer.read()
    connection.close()
    return answer.status, head, read


def prove_wire(direct_port, gateway):
    section("the same on the wire")
    inputs, outputs = [tensor(iris_inputs()[1], True)], [triton.InferRequestedOutput("P", binary_data=True)]
    body, json_bytes = triton.InferenceServerClient.generate_request_body(inputs, outputs=outputs)
    headers = {"inference-header-content-length": str(json_bytes), "content-type": "application/octet-stream"}
    expected = exchange(direct_port, body, headers)
    check("Triton answers with the binary extension", "inference-header-content-length" in dict(expected[1]), expected[1])
    same("binary: status, head and body byte for byte", expected, exchange(gateway.port, body, headers))
    same("header in other cases", expected, exchange(gateway.port, body, {k.upper(): v for k, v in headers.items()}))
    for wrong in ("0", str(json_bytes - 1), str(len(body) + 1), "-1", "x"):
        odd = dict(headers) | {"inference-header-content-length": wrong}
        seen, expected = exchange(gateway.port, body, odd), exchange(direct_port, body, odd)
        same(f"a wrong inference-header-content-length ({wrong}) is Triton's to judge: {expected[0]}", expected, seen)
    pieces = [body[at : at + 50] for at in range(0, len(body), 50)]
    chunked = dict(headers) | {"transfer-encoding": "chunked"}
    same("a chunked request", exchange(direct_port, iter(pieces), chunked), exchange(gateway.port, iter(pieces), chunked))


def prove_large(direct, through):
    section("large tensors")
    random = np.random.default_rng(3)
    for mebibytes in (1, 16, 24):
        x = random.random((mebibytes * 256, 1024), dtype=np.float32)
        for name, server in direct.items():
            times = [time.monotonic()]
            expected = infer(server, "affine", x)
            times.append(time.monotonic())
            seen = infer(through, "affine", x, headers={VERSION: name})
            times.append(time.monotonic())
            same(f"{name}: {mebibytes} MiB each way, binary", expected, seen)
            print(f"     {times[1] - times[0]:.2f} s from Triton, {times[2] - times[1]:.2f} s through the gateway")
    x = random.random((200, 1000), dtype=np.float32)
    expected = infer(direct["v2"], "affine", x, False, False)
    same("200,000 numbers each way, JSON", expected, infer(through, "affine", x, False, False, headers={VERSION: "v2"}))
    x = random.random((4096, 1024), dtype=np.float32)
    expected = infer(direct["v2"], "affine", x)
    at_once = gevent.pool.Pool(8)
    seen = at_once.imap_unordered(lambda _: infer(through, "affine", x, headers={VERSION: "v2"}), range(8))
    same("16 MiB each way, eight at once", 8, sum(answer == expected for answer in seen))


def prove_body_limit(through):
    section("over the body limit")
    x = np.zeros((MIB, 4), dtype=np.float32)
    try:
        seen = outcome(lambda: infer(through, "iris", x))[:9]
    except Exception as error:  # of the client's sockets
        seen = f"{type(error).__name__} {error}"
    same("16 MiB to a route that takes 10 MiB: the client is told 413", "error 413", seen)
    same("... and goes on", True, through.is_server_ready())


def prove_stream(direct_port, gateway):
    section("a stream: generate_stream of a decoupled model, 20 events 50 ms apart")

    def events(port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("POST", "/v2/models/tokens/generate_stream", json.dumps({"count": 20}))
        answer = connection.getresponse()
        began, seen, times = time.monotonic(), b"", []
        while part := answer.read1(65536):
            seen += part
            times.append(time.monotonic() - began)
        connection.close()
        return answer.status, answer.getheader("content-type"), seen, times

    status, kind, expected, _ = events(direct_port)
    seen = events(gateway.port)
    same("the events are Triton's", (status, kind, expected), seen[:3])
    same("... all of them", 20, expected.count(b"data: "))
    check(f"each came when it was sent: {len(seen[3])} reads over {seen[3][-1]:.2f} s", len(seen[3]) >= 18 and seen[3][-1] > 0.8)


def prove_concurrent(gateway, expected):
    section("3,000 inferences, 64 at once, on kept connections")
    inputs = iris_inputs()
    connections = gateway.metrics("tidegate_connections_total")
    requests = gateway.metrics("tidegate_requests_total")
    client = triton.InferenceServerClient(gateway.address, concurrency=64)

    def is_right(number):
        headers = {VERSION: "v2"} if number % 2 else {}
        result = client.infer("iris", [tensor(inputs[number % INPUTS], True)], headers=headers)
        return comparable(result)[1] == expected[number % 2 + 1][number % INPUTS]

    right = sum(gevent.pool.Pool(64).imap_unordered(is_right, range(3000)))
    client.close()
    same("right answers", 3000, right)
    # The client tries again on its own when a connection dies under it: these two show that none did.
    same("requests that the gateway saw", 3000, gateway.metrics("tidegate_requests_total") - requests)
    opened = int(gateway.metrics("tidegate_connections_total") - connections)
    same("connections that carried them", 64, opened)


# ------------------------------------------------------------------------------------------------ under load

CLIENTS = multiprocessing.get_context("spawn")


def load(address, header, expected, total, stop, progress, results):
    """One client on one kept connection: a list of (when, seconds, version or error), until all clients together
    have made `total`, or until `stop`."""
    client = triton.InferenceServerClient(address, connection_timeout=20, network_timeout=20)
    inputs, seen = iris_inputs(), []
    headers = {VERSION: header} if header else {}

    def goes_on():
        with progress.get_lock():
            progress.value += 1
            return not stop.is_set() and (total is None or progress.value <= total)

    while goes_on():
        number, began = len(seen) % INPUTS, time.monotonic()
        try:
            result = client.infer("iris", [tensor(inputs[number], True)], headers=headers)
            version = int(result.get_response()["model_version"])
            made = version if comparable(result)[1] == expected[version][number] else "wrong answer"
        except InferenceServerException as error:
            made = f"status {error.status()}"
        except Exception as error:  # of the client's sockets
            made = f"{type(error).__name__} {error}"
        seen.append((began, time.monotonic() - began, made))
        if isinstance(made, str):
            time.sleep(0.02)
    results.put((header, seen))


class Load:
    def __init__(self, address, expected, headers, total=None):
        self.stop, self.progress, self.results = CLIENTS.Event(), CLIENTS.Value("i", 0), CLIENTS.Queue()
        self.clients = [
            CLIENTS.Process(
                target=load,
                args=(address, header, expected, total, self.stop, self.progress, self.results),
                daemon=True,
            )
            for header in headers
        ]
        for client in self.clients:
            client.start()

    def wait_for(self, count):
        wait_until(f"{count} inferences are begun", 120, lambda: self.progress.value >= count)

    def end(self):
        """The list of each client, with its header."""
        seen = [self.results.get(timeout=120) for _ in self.clients]
        for client in self.clients:
            client.join(10)
        return seen


def troubles(seen):
    counts = {}
    for _, _, made in seen:
        if isinstance(made, str):
            counts[made] = counts.get(made, 0) + 1
    return counts


def prove_reload(gateway, expected):
    section("5,000 inferences by five clients, four SIGHUPs in the middle; one brings a config with a mistake")
    connections = gateway.metrics("tidegate_connections_total")
    requests = gateway.metrics("tidegate_requests_total")
    running = Load(gateway.address, expected, [None, None, None, None, "v2"], total=5000)
    for at, otherwise, mistake in [(1000, "v2", ""), (2000, "stable", "surprise = 1"), (3000, "stable", ""), (4000, "v2", "")]:
        running.wait_for(at)
        gateway.configure(otherwise, mistake)
        took = gateway.reload()
        what = "refused, the old one stays" if mistake else f"taken: without a header, {otherwise} answers"
        same(f"after {at} inferences: {what}", not mistake, took)
    seen = running.end()
    every = [item for _, items in seen for item in items]
    same("failed or wrong, of 5,000", {}, troubles(every))
    same("inferences", 5000, len(every))
    for header, items in seen:
        versions = [made for _, _, made in items]
        runs = [version for at, version in enumerate(versions) if at == 0 or versions[at - 1] != version]
        who = f"the client that asks for {header}" if header else "a client without the header"
        same(f"{who} saw the versions in the order of the configs", [2] if header else [1, 2, 1, 2], runs)
    same("requests that the gateway saw: nobody had to ask twice", 5000, gateway.metrics("tidegate_requests_total") - requests)
    same("connections: each client kept its own", 5, gateway.metrics("tidegate_connections_total") - connections)
    gateway.configure("stable")
    same("back to stable", True, gateway.reload())


def prove_kill(gateway, stable, expected):
    section("Triton is killed and started again under load")
    running = Load(gateway.address, expected, [None, None, None, None, "v2", "v2"])
    running.wait_for(600)
    killed = time.monotonic()
    end(stable.process, signal.SIGKILL)
    time.sleep(1)
    problem = exchange(gateway.port, b"{}", {}, "/v2/models/iris/infer")
    time.sleep(2)
    stable.start()
    stable.wait_ready()
    ready = time.monotonic()
    time.sleep(3)
    running.stop.set()
    seen = running.end()
    of_stable = [item for header, items in seen if header is None for item in items]
    before = [item for item in of_stable if item[0] + item[1] < killed]
    after = [item for item in of_stable if item[0] > ready]
    between = [item for item in of_stable if killed <= item[0] + item[1] and item[0] <= ready]
    same(f"before: failed of {len(before)}", {}, troubles(before))
    kinds = troubles(between)
    print(f"     while it was gone ({ready - killed:.1f} s): {kinds}, {len(between) - sum(kinds.values())} answered")
    check("while it was gone: 502 or 503, nothing else", kinds and set(kinds) <= {"status 502", "status 503"}, kinds)
    slowest = max(seconds for _, seconds, _ in between)
    check(f"nobody waited long for that: {slowest:.2f} s at most", slowest < 5)
    kind = json.loads(problem[2]).get("type", "") if problem[2] else ""
    same("the error is the gateway's own", (502, "connect_failed"), (problem[0], kind.rsplit("/", 1)[-1].rsplit(":", 1)[-1]))
    same(f"after: failed of {len(after)}, from the moment that it was ready", {}, troubles(after))
    check("... and it answers again", len(after) > 100 and all(made == 1 for _, _, made in after), len(after))
    of_v2 = [item for header, items in seen if header for item in items]
    same(f"the other server meanwhile: failed of {len(of_v2)}", {}, troubles(of_v2))
    same("the gateway is the same process", None, gateway.process.poll())


def prove_end(gateway):
    section("what it leaves behind")
    wait_until("the access log is written", 10, lambda: gateway.log.stat().st_size > 0)
    time.sleep(0.5)
    same("requests in flight", 0, gateway.metrics("tidegate_endpoint_in_flight"))
    same("panics", 0, gateway.metrics("tidegate_panics_total"))
    same("access log lines lost", 0, gateway.metrics("tidegate_access_log_dropped_total"))
    lines = [json.loads(line) for line in gateway.log.read_text().splitlines()]
    same("access log lines: one a request", int(gateway.metrics("tidegate_requests_total")), len(lines))
    end(gateway.process, signal.SIGTERM)
    same("the gateway drains and exits with", 0, gateway.process.returncode)


def main():
    stable, v2 = Server("stable", 1), Server("v2", 2)
    for server in (stable, v2):
        server.start()
    gateway = Gateway([stable, v2])
    gateway.configure("stable")
    gateway.start()
    for server in (stable, v2):
        server.wait_ready()
    direct = {server.name: triton.InferenceServerClient(server.address) for server in (stable, v2)}
    through = triton.InferenceServerClient(gateway.address, concurrency=8)
    print("Triton", direct["stable"].get_server_metadata()["version"], "on", stable.address, "and", v2.address)
    expected = {
        server.version: [infer(direct[server.name], "iris", x)[1] for x in iris_inputs()] for server in (stable, v2)
    }
    prove_single_calls(direct, through)
    prove_inferences(direct, through)
    prove_wire(stable.port, gateway)
    prove_large(direct, through)
    prove_body_limit(through)
    prove_stream(stable.port, gateway)
    prove_concurrent(gateway, expected)
    prove_reload(gateway, expected)
    prove_kill(gateway, stable, expected)
    prove_end(gateway)


def clean_up():
    for process in STARTED:
        end(process, signal.SIGTERM, 10)
    # What a killed Triton leaves in shared memory.
    for left in Path("/dev/shm").glob(f"{SHM_PREFIX}*"):
        left.unlink(missing_ok=True)


def run(proof):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        proof()
    except Exception as error:
        check("the proof runs to its end", False, f"{type(error).__name__}: {error}")
        raise
    finally:
        clean_up()
        print(f"\n{PASSED} passed, {FAILED} failed")
    sys.exit(FAILED > 0)


if __name__ == "__main__":
    run(main)
