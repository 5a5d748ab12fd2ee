"""scripts/proof inference: what a tensor costs that comes as numbers of JSON, with the gateway that makes gRPC of it and with Triton's own front.
CPU time of each one's own process; what comes back is in binary. What the tensor costs Triton by itself is taken off: the same in binary."""

import json
import os
from pathlib import Path

import numpy as np

from triton import check, section

SHAPE = (3, 224, 224)
ROUNDS, REQUESTS = 9, 20
#: Less than was ever seen, on machines that others use, too.
TIMES_MIN = 2


def seconds(process):
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def prove(world):
    section("150,528 numbers of JSON, beside Triton's own front")
    values = np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)
    asked = {"outputs": [{"name": "OUT_FP32", "parameters": {"binary_data": True}}]}
    tensor = {"name": "IN_FP32", "datatype": "FP32", "shape": list(SHAPE)}
    text = json.dumps(asked | {"inputs": [tensor | {"data": [float(value) for value in values.ravel()]}]}).encode()
    raw = values.tobytes()
    head = json.dumps(asked | {"inputs": [tensor | {"parameters": {"binary_data_size": len(raw)}}]}).encode()
    in_binary = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))}
    path = "/v2/models/echo3/infer"

    def ours():
        return world.ask("grpc", path, text, "application/json")

    def theirs():
        return world.ask_triton(path, text, "application/json")

    def without_numbers():
        return world.ask_triton(path, head + raw, headers=in_binary)

    def cost(process, ask):
        before = seconds(process)
        for _ in range(REQUESTS):
            status, _, body = ask()
            assert status == 200 and body.endswith(raw), (status, body[:200])
        return (seconds(process) - before) / REQUESTS

    gateway, triton = world.gateway.process, world.triton.process
    ratios, shown = [], []
    for _ in range(ROUNDS):
        ms = [1000 * cost(*way) for way in ((gateway, ours), (triton, theirs), (triton, without_numbers))]
        ratios.append((ms[1] - ms[2]) / ms[0])
        shown.append(ms)
    ms = np.median(np.array(shown), axis=0)
    words = f"{len(text) / 1e6:.1f} MB: the gateway {ms[0]:.1f} ms, all that it does; Triton's front {ms[1] - ms[2]:.1f} ms"
    ratio = float(np.median(ratios))
    spread = f"{min(ratios):.1f} to {max(ratios):.1f}"
    check(f"{words}; {ratio:.1f} times ({spread})", ratio >= TIMES_MIN, f"at least {TIMES_MIN} times")
