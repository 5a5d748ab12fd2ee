"""NVIDIA's gRPC client with real Triton servers behind Tidegate: every answer is the one that the client gets from Triton itself.
Started by scripts/proof triton, after triton.py, whose servers and models these are."""

import json
import queue
import signal
import sys
import threading
import time

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

import triton as shared
from authority import certificates
from triton import MIB, VERSION, Server, check, end, free_port, get, iris_inputs, same, section, wait_until


class Gateway(shared.Gateway):
    """The same on gRPC: one port in the clear, one with TLS."""

    def __init__(self, servers):
        super().__init__(servers)
        self.tls_port = free_port()
        certificates(shared.DIR)

    def configure(self, otherwise, mistake=""):
        services = "\n".join(
            f'[service.model-service-{server.name}]\nendpoints = ["{server.grpc_address}"]\nprotocol = "h2"'
            for server in self.servers
        )
        new = self.file.with_suffix(".new")
        new.write_text(f"""
driver = "{shared.os.environ.get("PROOF_DRIVER", "auto")}"

[listen.web]
address = "{self.address}"

[listen.secure]
protocol = "https"
address  = "127.0.0.1:{self.tls_port}"
tls      = {{ certificate = "edge.pem", key = "edge.key" }}

[admin]
address = "127.0.0.1:{self.admin_port}"

[log]
access = "access.log"

{services}

[[route]]
name       = "inference"
match      = {{ path = "/inference.GRPCInferenceService/**" }}
to         = "model-service-{{header:x-model-version}}"
otherwise  = "model-service-{otherwise}"
body_limit = "32MiB"

[[route]]
name      = "health"
match     = {{ path = "/grpc.health.v1.Health/**" }}
to        = "model-service-stable"
{mistake}
""")
        new.rename(self.file)


def tensor(array, name="X", kind="FP32"):
    made = triton.InferInput(name, list(array.shape), kind)
    made.set_data_from_numpy(array)
    return made


def comparable(result):
    answer = result.get_response(as_json=True)
    answer.pop("raw_output_contents", None)
    names = [output["name"] for output in answer["outputs"]]
    arrays = {name: result.as_numpy(name) for name in names}
    return json.dumps(answer, sort_keys=True), {
        name: (array.shape, array.tolist() if array.dtype == object else array.tobytes()) for name, array in arrays.items()
    }


def infer(client, model, array, **options):
    return comparable(client.infer(model, [tensor(array)], **options))


def outcome(action):
    """What the client made of it: a result, or the error that it raised."""
    try:
        made = action()
        return made if isinstance(made, (bool, dict, tuple)) else str(made)
    except InferenceServerException as error:
        # Triton ends some with a space, which no field of HTTP/2 may (RFC 9113 §8.2.1): it does not reach the client.
        return f"error {error.status()}: {error.message().rstrip(' ')}"


def prove_calls(direct, through):
    section("gRPC: what tritonclient can ask is answered as Triton answers it")
    calls = {
        "server live": lambda c, **o: c.is_server_live(**o),
        "server ready": lambda c, **o: c.is_server_ready(**o),
        "server metadata": lambda c, **o: c.get_server_metadata(**o),
        "model ready": lambda c, **o: c.is_model_ready("iris", **o),
        "model ready, no such model": lambda c, **o: c.is_model_ready("none", **o),
        "model metadata": lambda c, **o: c.get_model_metadata("iris", **o),
        "model metadata, no such model": lambda c, **o: c.get_model_metadata("none", **o),
        "model config": lambda c, **o: c.get_model_config("iris", **o),
        "repository index": lambda c, **o: c.get_model_repository_index(**o),
        "trace settings": lambda c, **o: c.get_trace_settings(**o),
        "log settings": lambda c, **o: c.get_log_settings(**o),
        "shared memory status": lambda c, **o: c.get_system_shared_memory_status(**o),
        "loading a model, which is not allowed": lambda c, **o: c.load_model("iris", **o),
    }
    x = iris_inputs()[0]
    wrong = np.zeros((2, 5), dtype=np.float32)
    for name, server in direct.items():
        asked = {VERSION: name}
        for what, call in calls.items():
            same(f"{name}: {what}", outcome(lambda: call(server)), outcome(lambda: call(through, headers=asked)))
        expected = infer(server, "iris", x)
        same(f"{name}: an inference", expected, infer(through, "iris", x, headers=asked))
        same(f"{name}: answered by its version", {"stable": "1", "v2": "2"}[name], json.loads(expected[0])["model_version"])
        for algorithm in ("gzip", "deflate"):
            seen = infer(through, "iris", x, headers=asked, compression_algorithm=algorithm)
            same(f"{name}: compressed with {algorithm}", expected, seen)
        expected = outcome(lambda: infer(server, "iris", wrong))
        same(f"{name}: a wrong shape is {expected[:33]}", expected, outcome(lambda: infer(through, "iris", wrong, headers=asked)))
    expected = outcome(lambda: infer(direct["stable"], "iris", x, model_version="2"))
    same("a version that the server lacks", expected, outcome(lambda: infer(through, "iris", x, model_version="2")))
    expected = outcome(lambda: infer(direct["stable"], "none", x))
    same("a model that the server lacks", expected, outcome(lambda: infer(through, "none", x)))


def prove_large(direct, through):
    section("gRPC: large tensors")
    random = np.random.default_rng(3)
    for mebibytes in (1, 16, 24):
        x = random.random((mebibytes * 256, 1024), dtype=np.float32)
        times = [time.monotonic()]
        expected = infer(direct["v2"], "affine", x)
        times.append(time.monotonic())
        same(f"{mebibytes} MiB each way", expected, infer(through, "affine", x, headers={VERSION: "v2"}))
        times.append(time.monotonic())
        print(f"     {times[1] - times[0]:.2f} s from Triton, {times[2] - times[1]:.2f} s through the gateway")
    x = np.zeros((9 * MIB, 1), dtype=np.float32)
    seen = outcome(lambda: infer(through, "affine", x))
    check("36 MiB to a route that takes 32: RESOURCE_EXHAUSTED", "StatusCode.RESOURCE_EXHAUSTED" in str(seen), seen)
    same("... and the client goes on", True, through.is_server_ready())


def streamed(client, count, **options):
    """The tokens of a decoupled model and when each came; the stream's error, if it ended with one."""
    heard = queue.Queue()
    client.start_stream(callback=lambda result, error: heard.put((time.monotonic(), result, error)), **options)
    made = triton.InferInput("count", [1], "INT32")
    made.set_data_from_numpy(np.array([count], dtype=np.int32))
    client.async_stream_infer("tokens", [made])
    tokens, times = [], []
    for _ in range(count):
        when, result, error = heard.get(timeout=30)
        if error is not None:
            return tokens, times, str(error)
        tokens.append(result.as_numpy("token")[0].decode())
        times.append(when)
    client.stop_stream()
    return tokens, times, None


def prove_streams(direct, through):
    section("gRPC: ModelStreamInfer of a decoupled model")
    expected, _, _ = streamed(direct["stable"], 20)
    tokens, times, error = streamed(through, 20)
    same("20 answers to one message, Triton's", (expected, None), (tokens, error))
    check(f"each came when it was sent: over {times[-1] - times[0]:.2f} s", times[-1] - times[0] > 0.8)
    through.stop_stream()

    began = time.monotonic()
    _, _, error = streamed(through, 100, stream_timeout=0.5)
    took = time.monotonic() - began
    check(f"a stream's deadline of 0.5 s ends it after {took:.2f} s", error and "Deadline" in error and took < 1.5, error)
    through.stop_stream(cancel_requests=True)
    seen = outcome(lambda: infer(through, "iris", iris_inputs()[0], client_timeout=0.000001))
    check("a call's deadline that is over at once", "DEADLINE_EXCEEDED" in str(seen), seen)


def prove_secure(direct, gateway):
    section("gRPC: over TLS")
    client = triton.InferenceServerClient(f"localhost:{gateway.tls_port}", ssl=True, root_certificates=str(shared.DIR / "ca.pem"))
    x = iris_inputs()[3]
    for name, server in direct.items():
        same(f"{name}: an inference", infer(server, "iris", x), infer(client, "iris", x, headers={VERSION: name}))
    client.close()


def load(address, expected, header, stop, seen):
    client = triton.InferenceServerClient(address)
    inputs = iris_inputs()
    headers = {VERSION: header} if header else {}
    while not stop.is_set():
        number, began = len(seen) % len(inputs), time.monotonic()
        try:
            result = comparable(client.infer("iris", [tensor(inputs[number])], headers=headers, client_timeout=20))
            version = int(json.loads(result[0])["model_version"])
            made = version if result[1] == expected[version][number] else "wrong answer"
        except InferenceServerException as error:
            made = str(error.status())
        seen.append((began, time.monotonic(), made))
        if isinstance(made, str):
            time.sleep(0.02)
    client.close()


class Load:
    def __init__(self, address, expected, headers):
        self.stop, self.seen = threading.Event(), [(header, []) for header in headers]
        self.threads = [
            threading.Thread(target=load, args=(address, expected, header, self.stop, seen), daemon=True)
            for header, seen in self.seen
        ]
        for thread in self.threads:
            thread.start()

    def count(self):
        return sum(len(seen) for _, seen in self.seen)

    def wait_for(self, more):
        want = self.count() + more
        wait_until(f"{want} inferences are made", 120, lambda: self.count() >= want)

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join(30)
        return self.seen


def troubles(items):
    counts = {}
    for *_, made in items:
        if isinstance(made, str):
            counts[made] = counts.get(made, 0) + 1
    return counts


def prove_reload(gateway, expected):
    section("gRPC: inferences by five clients, four SIGHUPs in the middle; one brings a config with a mistake")
    running = Load(gateway.address, expected, [None, None, None, None, "v2"])
    running.wait_for(500)
    for otherwise, mistake in [("v2", ""), ("stable", "surprise = 1"), ("stable", ""), ("v2", "")]:
        gateway.configure(otherwise, mistake)
        same("a mistake is refused" if mistake else f"taken: {otherwise}", not mistake, gateway.reload())
        running.wait_for(500)
    seen = running.end()
    every = [item for _, items in seen for item in items]
    same(f"failed or wrong, of {len(every)}", {}, troubles(every))
    for header, items in seen:
        versions = [made for *_, made in items]
        runs = [version for at, version in enumerate(versions) if at == 0 or versions[at - 1] != version]
        who = f"the client that asks for {header}" if header else "a client without the header"
        same(f"{who} saw the versions in the order of the configs", [2] if header else [1, 2, 1, 2], runs)
    gateway.configure("stable")
    same("back to stable", True, gateway.reload())


def prove_kill(gateway, stable, expected):
    section("gRPC: Triton is killed and started again under load")
    running = Load(gateway.address, expected, [None, None, None, "v2"])
    running.wait_for(500)
    killed = time.monotonic()
    end(stable.process, signal.SIGKILL)
    time.sleep(2)
    stable.start()
    stable.wait_ready()
    ready = time.monotonic()
    running.wait_for(500)
    seen = running.end()
    of_stable = [item for header, items in seen if header is None for item in items]
    before = [item for item in of_stable if item[1] < killed]
    between = [item for item in of_stable if item[1] >= killed and item[0] <= ready]
    after = [item for item in of_stable if item[0] > ready]
    same(f"before: failed of {len(before)}", {}, troubles(before))
    check("while it was gone: UNAVAILABLE and nothing else", set(troubles(between)) == {"StatusCode.UNAVAILABLE"}, troubles(between))
    same(f"after: failed of {len(after)}, from the moment that it was ready", {}, troubles(after))
    of_v2 = [item for header, items in seen if header for item in items]
    same(f"the other server meanwhile: failed of {len(of_v2)}", {}, troubles(of_v2))


def main():
    stable, v2 = Server("stable", 1), Server("v2", 2)
    for server in (stable, v2):
        server.start()
    gateway = Gateway([stable, v2])
    gateway.configure("stable")
    gateway.start()
    for server in (stable, v2):
        server.wait_ready()
    direct = {server.name: triton.InferenceServerClient(server.grpc_address) for server in (stable, v2)}
    through = triton.InferenceServerClient(gateway.address)
    expected = {
        server.version: [infer(direct[server.name], "iris", x)[1] for x in iris_inputs()] for server in (stable, v2)
    }
    prove_calls(direct, through)
    prove_large(direct, through)
    prove_streams(direct, through)
    prove_secure(direct, gateway)
    prove_reload(gateway, expected)
    prove_kill(gateway, stable, expected)
    through.close()
    shared.prove_end(gateway)


if __name__ == "__main__":
    shared.run(main)
