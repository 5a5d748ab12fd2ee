"""What conversions cost a core, by the CPU time of the gateway: wrk posts to it from one core, where a trivial gRPC server answers, too;
the gateway has the other one. Pillow and OpenCV do the same work, alone, on that other one, in between.
"""
import os
import statistics
import subprocess
import sys
import time
from concurrent import futures
from pathlib import Path

PROOF_DIR, TIDEGATE = Path(os.environ["PROOF_DIR"]), os.environ["TIDEGATE"]
ROOT = Path(__file__).resolve().parents[2]
PHOTO = ROOT / "tests/corpus/images/photo-640x480.jpg"
WEB, ADMIN, MODEL = 28080, 28180, 28001
OURS, THEIRS = 0, 1
ROUNDS, SECONDS = int(os.environ.get("ROUNDS", "5")), int(os.environ.get("SECONDS", "4"))

CONFIG = f"""
workers = 1
[admin]
address = "127.0.0.1:{ADMIN}"
[log]
access = "off"
[limits]
body = "64MiB"
[listen.web]
address = "127.0.0.1:{WEB}"
[service.images]
endpoints = ["127.0.0.1:{MODEL}"]
protocol = "h2"
model = {{ protocol = "grpc", name = "m", inputs = [{{ name = "input", datatype = "FP32", shape = [3, 224, 224], image = true, layout = "NCHW", scale = "1/255", mean = [0.485, 0.456, 0.406], std = [0.229, 0.224, 0.225] }}] }}
[service.encoded]
endpoints = ["127.0.0.1:{MODEL}"]
protocol = "h2"
model = {{ protocol = "grpc", name = "m", inputs = [{{ name = "input", datatype = "BYTES", shape = [1], image = true }}] }}
[service.any]
endpoints = ["127.0.0.1:{MODEL}"]
protocol = "h2"
model = {{ protocol = "grpc", name = "m" }}
[[route]]
match.path = "/images"
to = "images"
[[route]]
match.path = "/encoded"
to = "encoded"
[[route]]
match.path = "/v2/**"
to = "any"
[[route]]
match.path = "/ok"
respond = {{ status = 200, body = "ok" }}
"""


def answer():
    """ModelInferResponse: model_name "m", an output "o" of FP32 [1], and its element."""
    tensor = b"\x0a\x01o\x12\x04FP32\x1a\x01\x01"
    return b"\x0a\x01m\x2a" + bytes([len(tensor)]) + tensor + b"\x32\x04\x00\x00\x80\x3f"


def serve():
    """A model server that reads nothing of what it is asked."""
    import grpc

    said = answer()
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: said)
    server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", 1 << 28)])
    handlers = grpc.method_handlers_generic_handler("inference.GRPCInferenceService", {"ModelInfer": handler})
    server.add_generic_rpc_handlers((handlers,))
    server.add_insecure_port(f"127.0.0.1:{MODEL}")
    server.start()
    server.wait_for_termination()


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def post(name, content_type, body):
    """A script for wrk that posts this, and says what it counted."""
    file, script = PROOF_DIR / f"{name}.body", PROOF_DIR / f"{name}.lua"
    file.write_bytes(body)
    script.write_text(
        f"""
wrk.method = "POST"
local file = io.open("{file}", "rb")
wrk.body = file:read("*a")
file:close()
wrk.headers["content-type"] = "{content_type}"
done = function(summary, latency)
  local e = summary.errors
  print(string.format("FIGURES %d %d %.0f %.0f", summary.requests, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""
    )
    return script


def load(path, script, connections, seconds, before=()):
    command = [*before, "taskset", "-c", str(THEIRS), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script)]
    said = subprocess.run([*command, f"http://127.0.0.1:{WEB}{path}"], capture_output=True, text=True, check=True).stdout
    line = next(line for line in said.splitlines() if line.startswith("FIGURES"))
    requests, errors, p50, p99 = map(float, line.split()[1:])
    if errors or not requests:
        sys.exit(f"{path}: {errors:.0f} of {requests:.0f} failed")
    return requests, p50, p99


def per_core(gateway, path, script, connections=8):
    """Requests for each second of the gateway's CPU time."""
    load(path, script, connections, 1)
    before = cpu_seconds(gateway.pid)
    requests, _, _ = load(path, script, connections, SECONDS)
    return requests / (cpu_seconds(gateway.pid) - before)


def python_rates():
    """What bench/image_peers.py does, for each second of CPU time, on the gateway's core."""
    code = f"""
import sys
sys.path.insert(0, {str(ROOT / 'bench')!r})
import image_peers as peers
import time
peers.cv2.setNumThreads(1)
def rate(call, calls=100):
    call()
    begin = time.process_time()
    for _ in range(calls):
        call()
    return calls / (time.process_time() - begin)
print(rate(peers.pillow), rate(peers.opencv), rate(peers.opencv_aliased))
"""
    command = ["taskset", "-c", str(OURS), sys.executable, "-c", code]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return dict(zip(("Pillow and numpy", "OpenCV, area", "OpenCV, linear"), map(float, said.split())))


def ratios(ours, theirs):
    each = sorted(a / b for a, b in zip(ours, theirs))
    return f"{statistics.median(each):.2f} ({each[0]:.2f}-{each[-1]:.2f})"


def images(gateway):
    photo = PHOTO.read_bytes()
    decoded, passed = post("decoded", "image/jpeg", photo), post("passed", "image/jpeg", photo)
    rates = {}
    for _ in range(ROUNDS):
        rates.setdefault("decoded to FP32, sent by gRPC", []).append(per_core(gateway, "/images", decoded))
        rates.setdefault("judged and passed on", []).append(per_core(gateway, "/encoded", passed))
        for what, rate in python_rates().items():
            rates.setdefault(what, []).append(rate)
    print(f"640x480 JPEG of {len(photo)} bytes to 224x224, images for each second of a core, median of {ROUNDS} rounds")
    ours = rates["decoded to FP32, sent by gRPC"]
    for what, each in rates.items():
        beside = "" if each is ours or what.startswith("judged") else f"   ours {ratios(ours, each)} x"
        print(f"  {what:32} {statistics.median(each):8.0f}{beside}")


def numbers(gateway):
    import numpy

    values = numpy.random.default_rng(1).standard_normal(3 * 224 * 224).astype(numpy.float32)
    data = ",".join(repr(float(value)) for value in values)
    body = f'{{"inputs":[{{"name":"i","shape":[1,3,224,224],"datatype":"FP32","data":[{data}]}}]}}'.encode()
    script = post("numbers", "application/json", body)
    each = [per_core(gateway, "/v2/models/m/infer", script, 4) for _ in range(ROUNDS)]
    print(f"JSON of {len(body) / 1e6:.1f} MB with 150,528 FP32 numbers to gRPC: {statistics.median(each):.0f} for each second of a core")


def beside(gateway):
    """Other requests' latency on the same core, while images keep the compute threads busy."""
    plain = PROOF_DIR / "plain.lua"
    plain.write_text(post("none", "text/plain", b"").read_text().replace('wrk.method = "POST"', 'wrk.method = "GET"'))
    decoded = PROOF_DIR / "decoded.lua"
    alone, crowded = [], []
    # Before the other load on its own core: what is asked is how long the gateway's core takes.
    first = ("nice", "-n", "-20")
    for _ in range(ROUNDS):
        alone.append(load("/ok", plain, 1, SECONDS, first))
        command = ["taskset", "-c", str(THEIRS), "wrk", "-t1", "-c16", f"-d{SECONDS + 2}s", "-s", str(decoded)]
        other = subprocess.Popen([*command, f"http://127.0.0.1:{WEB}/images"], stdout=subprocess.DEVNULL)
        time.sleep(1)
        crowded.append(load("/ok", plain, 1, SECONDS, first))
        other.wait()
    for what, at in (("p50", 1), ("p99", 2)):
        a, b = ([figures[at] for figures in each] for each in (alone, crowded))
        print(f"other requests, {what}: {statistics.median(a):.0f} us alone, {statistics.median(b):.0f} us beside images, ratio {ratios(b, a)}")


def main():
    if sys.argv[1:] == ["serve"]:
        return serve()
    config = PROOF_DIR / "edge.toml"
    config.write_text(CONFIG)
    model = subprocess.Popen(["taskset", "-c", str(THEIRS), sys.executable, __file__, "serve"])
    log = open(PROOF_DIR / "gateway.log", "w")
    gateway = subprocess.Popen(["taskset", "-c", str(OURS), TIDEGATE, "run", "-c", str(config)], stderr=log, stdout=log)
    try:
        time.sleep(2)
        wanted = sys.argv[1:] or ["images", "numbers", "beside"]
        for name in wanted:
            {"images": images, "numbers": numbers, "beside": beside}[name](gateway)
        rss = next(line for line in Path(f"/proc/{gateway.pid}/status").read_text().splitlines() if "VmRSS" in line)
        print(f"the gateway's memory at the end: {int(rss.split()[1]) / 1024:.0f} MiB")
    finally:
        for process in (gateway, model):
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
