"""scripts/proof inference: more at once than there is memory for. Those that are let in are answered, the others are
told 503 at once, and what clients that go away have held is there again."""

import http.client
import json
import socket
import struct
import threading
import time

import numpy as np

from inference_asking import of_binary
from inference_servers import SERVICE
from inference_services import LARGE
from triton import MIB, check, same, section

CLIENTS = 40
#: Of a gateway that holds 256 MiB of bodies and tensors: those, their answers, and itself.
RESIDENT_MIB_MAX = 512


def prove(world):
    idle = world.gateway.resident_mib()
    numbers = np.random.default_rng(1).random(LARGE, dtype=np.float32)
    raw = numbers.tobytes()
    total = numbers.reshape(1, -1).sum(axis=1, dtype="<f4")
    prove_crowd(
        world,
        idle,
        "large",
        raw,
        {"content-type": "application/octet-stream"},
        "/",
        lambda body: np.float32(json.loads(body)["outputs"][0]["data"]) == total,
    )
    head = {
        "inputs": [{"name": "IN_FP32", "datatype": "FP32", "shape": [LARGE], "parameters": {"binary_data_size": len(raw)}}],
        "parameters": {"binary_data_output": True},
    }
    head = json.dumps(head).encode()
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))}
    prove_crowd(world, idle, "large-grpc", head + raw, headers, "/v2/models/echo1/infer", lambda body: body.endswith(raw))
    prove_gone(world, idle, raw)


def prove_crowd(world, idle, service, body, headers, path, is_right):
    section(f"{CLIENTS} bodies of {len(body) / MIB:.0f} MiB at once for {service}, which has 256 MiB")
    results, gate = [], threading.Barrier(CLIENTS)
    most, done = [idle], threading.Event()

    def one():
        gate.wait()
        began = time.monotonic()
        try:
            connection = http.client.HTTPConnection("127.0.0.1", world.gateway.port, timeout=60)
            connection.request("POST", path, body=body, headers=headers | {SERVICE: service})
            answer = connection.getresponse()
            made = answer.status, answer.read()
            connection.close()
        except OSError as error:
            made = type(error).__name__, b""
        results.append((time.monotonic() - began, *made))

    def watch():
        while not done.wait(0.02):
            most.append(world.gateway.resident_mib())

    watcher = threading.Thread(target=watch)
    threads = [threading.Thread(target=one) for _ in range(CLIENTS)]
    for thread in (watcher, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    watcher.join()
    counts = {}
    for _, status, _ in results:
        counts[status] = counts.get(status, 0) + 1
    let_in = [item for item in results if item[1] == 200]
    refused = [item for item in results if item[1] == 503]
    same("answered 200 or 503, nothing else", {200, 503}, set(counts))
    check(
        f"{len(let_in)} were let in, and their answers are right", let_in and all(is_right(body) for _, _, body in let_in), counts
    )
    slowest = max((seconds for seconds, _, _ in refused), default=0)
    check(f"{len(refused)} were told 503, each within {slowest:.2f} s", slowest < 5, slowest)
    check(f"resident: {idle:.0f} MiB before, {max(most):.0f} at most", max(most) < RESIDENT_MIB_MAX, max(most))


def prove_gone(world, idle, raw):
    section("clients that go away in the middle of their bodies")
    head = f"POST / HTTP/1.1\r\nhost: a\r\n{SERVICE}: large\r\ncontent-type: application/octet-stream\r\ncontent-length: {len(raw)}\r\n\r\n"
    for round in range(5):
        sockets = []
        for _ in range(CLIENTS):
            client = socket.create_connection(("127.0.0.1", world.gateway.port))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.settimeout(2)
            try:
                client.sendall(head.encode() + raw[: 10 * MIB])
            except OSError:
                pass
            sockets.append(client)
        for client in sockets:
            client.close()
    time.sleep(0.5)
    answers = [
        world.ask("large", "/", raw, "application/octet-stream", headers={"accept": "application/octet-stream"}) for _ in range(3)
    ]
    same("afterwards a request has its memory, and so have the next", [200] * 3, [status for status, _, _ in answers])
    check("... and its answer", len(of_binary(answers[0])[1].get("y", [])) == 1, answers[0][:2])
    same("requests in flight", 0, world.gateway.metrics("tidegate_endpoint_in_flight"))
    print(f"     resident: {idle:.0f} MiB at first, {world.gateway.resident_mib():.0f} now")
