"""scripts/proof inference: tensors of every datatype, of random shapes and values, by every client through every conversion."""

import ml_dtypes
import numpy as np

from inference_asking import by_grpc, by_http, outcome, to
from inference_servers import DATATYPES, RANKS
from triton import check, section

ROUNDS = 3
FLOATS = {"FP16": np.float16, "FP32": np.float32, "FP64": np.float64, "BF16": ml_dtypes.bfloat16}
#: What JSON has numbers for.
IN_JSON = [datatype for datatype in DATATYPES if datatype not in ("FP16", "BF16")]


def shape_of(random, rank):
    return tuple(int(side) for side in random.integers(1, 7, rank))


def tensor(random, datatype, shape, is_text=False):
    """Of random values, the ends of the datatype among them. `is_text`: only what JSON can say."""
    count = int(np.prod(shape))
    if datatype == "BYTES":
        return np.array([element(random, is_text) for _ in range(count)], dtype=object).reshape(shape)
    if datatype == "BOOL":
        return random.integers(0, 2, shape).astype(bool)
    if datatype in FLOATS:
        return floats(random, datatype, count, is_text).reshape(shape)
    kind = np.dtype(datatype.lower())
    ends = np.iinfo(kind)
    made = np.frombuffer(random.bytes(count * kind.itemsize), dtype=kind).copy()
    made[random.integers(0, count)] = random.choice(np.array([ends.min, ends.max], dtype=kind))
    return made.reshape(shape)


def floats(random, datatype, count, is_text):
    """Of random bits, so of all sizes; without NaN and infinities if it is for JSON."""
    kind = FLOATS[datatype]
    if is_text and datatype == "FP64":
        # Of few digits: Triton's reader of JSON is some units off with most others.
        return random.integers(-(10**15), 10**15, count) / 10.0 ** random.integers(0, 15, count)
    made = np.frombuffer(random.bytes(count * np.dtype(kind).itemsize), dtype=kind).copy()
    if is_text:
        made[~np.isfinite(made)] = -0.0
    else:
        made[random.integers(0, count)] = random.choice([np.nan, np.inf, -np.inf])
    return made


def element(random, is_text):
    length = int(random.choice([0, 1, 5, 300]))
    if is_text:
        return "".join(random.choice(list('aé☃𝄞"\\/\n\t\x01 <')) for _ in range(length)).encode()
    return random.bytes(length)


def prove(world):
    section("every datatype, random shapes: the answer through the gateway is the one that Triton gives")
    random = np.random.default_rng(11)
    for datatype in DATATYPES:
        prove_datatype(world, random, datatype)
    prove_exact(world, random)
    section("several inputs in one request")
    for datatypes in (["FP32", "BYTES", "BOOL"], ["INT64", "UINT8", "FP64", "BYTES"], ["FP16", "BF16", "INT32", "FP32"]):
        inputs = {f"IN_{datatype}": (datatype, tensor(random, datatype, shape_of(random, 2), True)) for datatype in datatypes}
        compare(world, " and ".join(datatypes), [("echo2", inputs)], all(datatype in IN_JSON for datatype in datatypes))


def prove_datatype(world, random, datatype):
    for is_text in (True, False) if datatype in ("BYTES", *FLOATS) else (True,):
        asked = []
        for rank in RANKS:
            for _ in range(ROUNDS):
                array = tensor(random, datatype, shape_of(random, rank), is_text)
                asked.append((f"echo{rank}", {f"IN_{datatype}": (datatype, array)}))
        asked.append(("echo2", {f"IN_{datatype}": (datatype, tensor(random, datatype, (1, 1), is_text)[:0])}))
        what = datatype if is_text else f"{datatype} of any {'bytes' if datatype == 'BYTES' else 'bits'}"
        compare(world, what, asked, is_text and datatype in IN_JSON)


def prove_exact(world, random):
    """Every FP64 that JSON says is read as it is, and written so that it is read as it is."""
    right, wrong, count = 0, 0, 200
    for _ in range(count):
        array = np.frombuffer(random.bytes(80), dtype=np.float64).copy()
        array[~np.isfinite(array)] = -0.0
        inputs = {"IN_FP64": ("FP64", array)}
        right += by_http(world.http, "echo1", inputs, binary=False, **to("grpc"))[1]["OUT_FP64"][2] == array.tobytes()
        wrong += by_http(world.triton_http, "echo1", inputs, binary=False)[1]["OUT_FP64"][2] != array.tobytes()
    check(
        f"any FP64: JSON → grpc: {right} of {count} tensors are what was sent (of Triton's own {wrong} are not)", right == count
    )


def compare(world, what, asked, is_for_json):
    """By HTTP through the service that speaks gRPC, by gRPC through those that speak REST, and each by its own."""
    ways = [("binary HTTP", by_http, world.http, world.triton_http, {}), ("gRPC", by_grpc, world.grpc, world.triton_grpc, {})]
    if is_for_json:
        ways.insert(0, ("JSON", by_http, world.http, world.triton_http, {"binary": False}))
    for client, by, through, direct, options in ways:
        for service in ("grpc", "rest", "binary"):
            right, first = 0, ""
            for number, (model, inputs) in enumerate(asked):
                # Each second time all outputs are named: servers then look elsewhere for how they are wanted.
                named = {"outputs": [name.replace("IN_", "OUT_") for name in inputs]} if number % 2 else {}
                expected = outcome(lambda: by(direct, model, inputs, **options, **named))
                seen = outcome(lambda: by(through, model, inputs, **options, **named, **to(service)))
                is_right = expected == seen and not isinstance(seen, str)
                right += is_right
                first = first or ("" if is_right else f"{model}: expected {str(expected)[:400]}, saw {str(seen)[:400]}")
            check(f"{what}: {client} → {service}: {right} of {len(asked)} alike", right == len(asked), first)
