"""grpcio's clients and servers with Tidegate in between. Started by scripts/proof grpc; TIDEGATE and PROOF_DIR say where things
are."""

import asyncio
import http.client
import os
import queue
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from statistics import median

import grpc
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2

from authority import certificates

HERE = Path(os.environ["PROOF_DIR"])
TIDEGATE = os.environ["TIDEGATE"]
SERVER = Path(__file__).with_name("grpc_server.py")
BIG = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20)]
PATIENCE = 30
# Of a cancellation on its way from one end to the other.
CANCELLED_WITHIN_MS = 10
totals = {"PASS": 0, "FAIL": 0}
started = []


def verdict(what, holds, seen=""):
    word = "PASS" if holds else "FAIL"
    totals[word] += 1
    print(f"{word} {what}" + ("" if holds else f": {str(seen)[:1500]}"), flush=True)


def same(what, expected, seen):
    verdict(what, expected == seen, f"expected {str(expected)[:300]}, saw {str(seen)[:300]}")


def section(title):
    print(f"\n== {title}", flush=True)


def note(text):
    print(f"     {text}", flush=True)


def free_port(given=set()):
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in given:
            given.add(port)
            return port


class Server:
    def __init__(self, port=None, *options):
        self.port = port or free_port()
        self.options = options
        self.lines = []
        self.start()

    def start(self):
        command = [sys.executable, "-u", str(SERVER), str(self.port), *self.options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(self.process)
        assert self.process.stdout.readline() == "listening\n", "the server does not listen"
        threading.Thread(target=self.listen, args=[self.process.stdout], daemon=True).start()

    def listen(self, lines):
        for line in lines:
            self.lines.append(line.strip())

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE)


class Gateway:
    def __init__(self, **ports):
        self.web, self.secure, self.admin = free_port(), free_port(), free_port()
        service = ""
        for name, (addresses, more) in ports.items():
            endpoints = ", ".join(f'"127.0.0.1:{port}"' for port in addresses)
            service += (f'[service.{name}]\nprotocol = "h2"\nendpoints = [{endpoints}]\n{more}\n'
                        f'[[route]]\nmatch.path = "/{name}.S/**"\nto = "{name}"\n')
        first = next(iter(ports))
        self.file = HERE / "gateway.toml"
        self.file.write_text(f'''workers = 1
[admin]
address = "127.0.0.1:{self.admin}"
[log]
access = "{HERE}/access.log"
[limits]
body = "32MiB"
[listen.web]
address = "127.0.0.1:{self.web}"
[listen.secure]
address = "127.0.0.1:{self.secure}"
protocol = "https"
tls = {{ certificate = "{HERE}/edge.pem", key = "{HERE}/edge.key" }}
[[route]]
match.path = "/short.S/**"
to = "{first}"
timeout = "300ms"
[[route]]
match.path = "/small.S/**"
to = "{first}"
body_limit = "1MiB"
response_message_limit = "2MiB"
[[route]]
match.path = "/grpc.health.v1.Health/**"
to = "{first}"
[[route]]
match.path = "/grpc.reflection.v1alpha.ServerReflection/**"
to = "{first}"
{service}''')
        log = open(HERE / "gateway.log", "a")
        self.process = subprocess.Popen([TIDEGATE, "run", "-c", str(self.file)], stdout=log, stderr=log)
        started.append(self.process)
        until = time.monotonic() + 10
        while not self.answers():
            assert time.monotonic() < until, "the gateway does not start: see gateway.log"
            time.sleep(0.05)

    def answers(self):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=2)
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False

    def resident_kb(self):
        return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())[1])

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE)


def dial(port, secure=False):
    options = [*BIG, ("grpc.use_local_subchannel_pool", 1)]
    if not secure:
        return grpc.insecure_channel(f"127.0.0.1:{port}", options)
    return grpc.secure_channel(f"localhost:{port}", grpc.ssl_channel_credentials((HERE / "ca.pem").read_bytes()), options)


def unary(channel, method, service="main"):
    return channel.unary_unary(f"/{service}.S/{method}")


def status(call):
    """How it ended, and with what words."""
    try:
        call()
    except grpc.RpcError as error:
        return error.code().name, error.details()
    return "OK", ""


def kinds(way, channel, service):
    section(f"all kinds of calls, {way}")
    echo = unary(channel, "Echo", service)
    exact = all(echo(b"x" * size, timeout=PATIENCE) == b"x" * size
                for size in (0, 1, 100, 16_383, 16_384, 16_385, 65_530, 65_536, 1 << 20))
    verdict("messages from nothing to 1 MiB come back as they were", exact)
    big = os.urandom(20 << 20)
    verdict("and one of 20 MiB", echo(big, timeout=PATIENCE) == big)
    _, call = echo.with_call(b"x", timeout=PATIENCE, metadata=(("x-mine", "1"), ("x-mine-bin", b"\x00\x01\xff")))
    first, last = dict(call.initial_metadata()), dict(call.trailing_metadata())
    same("metadata before and behind the answer, text and binary", ("a", b"\x00\xff", "z", b"\x01\x02"),
         (first.get("x-first"), first.get("x-first-bin"), last.get("x-last"), last.get("x-last-bin")))
    count = channel.unary_stream(f"/{service}.S/Count")
    same("2,000 messages of a server", [str(n).encode() for n in range(2000)], list(count(b"2000", timeout=PATIENCE)))
    join = channel.stream_unary(f"/{service}.S/Join")
    same("2,000 of a client", b"abc" * 2000, join(iter([b"abc"] * 2000), timeout=PATIENCE))
    say, chat = queue.Queue(), channel.stream_stream(f"/{service}.S/Chat")
    answers = chat(iter(say.get, None), timeout=PATIENCE)
    in_turn = True
    for turn in range(300):
        say.put(b"%d" % turn)
        in_turn = in_turn and next(answers) == b"%d" % turn
    say.put(None)
    verdict("300 messages, each answered before the next", in_turn and list(answers) == [])


def statuses(channel):
    section("statuses")
    wrong = {code.value[0]: seen for code in grpc.StatusCode if code.value[0]
             if (seen := status(lambda: unary(channel, "Fail")(b"%d gr\xc3\xbc\xc3\x9fe %%" % code.value[0], timeout=PATIENCE)))
             != (code.name, "grüße %")}
    same("each status of the endpoint arrives with its words", {}, wrong)
    # Which no field may end with, and which grpcio sends all the same.
    same("words that end with a space, but for that", ("ABORTED", "so"), status(lambda: unary(channel, "Fail")(b"10 so ", timeout=PATIENCE)))
    same("a service that no route knows", "NOT_FOUND", status(lambda: unary(channel, "Echo", "nobody")(b"", timeout=PATIENCE))[0])
    same("a method that the endpoint does not know", "UNIMPLEMENTED", status(lambda: unary(channel, "Nothing")(b"", timeout=PATIENCE))[0])
    same("an endpoint that is not there", "UNAVAILABLE", status(lambda: unary(channel, "Echo", "dead")(b"", timeout=PATIENCE))[0])
    same("a message that is too large", "RESOURCE_EXHAUSTED",
         status(lambda: unary(channel, "Echo", "small")(bytes((1 << 20) + 1), timeout=PATIENCE))[0])
    same("the largest that is not", "OK", status(lambda: unary(channel, "Echo", "small")(bytes(1 << 20), timeout=PATIENCE))[0])
    check = channel.unary_unary("/grpc.health.v1.Health/Check", health_pb2.HealthCheckRequest.SerializeToString,
                                health_pb2.HealthCheckResponse.FromString)
    same("the health service answers", health_pb2.HealthCheckResponse.SERVING,
         check(health_pb2.HealthCheckRequest(), timeout=PATIENCE).status)
    watch = channel.unary_stream("/grpc.health.v1.Health/Watch", health_pb2.HealthCheckRequest.SerializeToString,
                                 health_pb2.HealthCheckResponse.FromString)
    watched = watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
    same("and watches", health_pb2.HealthCheckResponse.SERVING, next(watched).status)
    watched.cancel()


def deadlines(channel, server):
    section("deadlines and cancellation")
    left = float(unary(channel, "Told")(b"", timeout=20))
    # grpcio rounds up what it tells.
    verdict("the endpoint is told the client's", 10 < left <= 20.5, left)
    left = float(unary(channel, "Told", "short")(b"", timeout=20))
    verdict("and the route's, where that is shorter", 0 < left <= 0.31, left)
    same("without one it is told of none", b"none", unary(channel, "Told")(b""))
    begun = time.monotonic()
    seen = status(lambda: unary(channel, "Wait")(b"", timeout=0.5))[0]
    verdict("a call ends at the client's", seen == "DEADLINE_EXCEEDED" and time.monotonic() - begun < 2, seen)
    begun = time.monotonic()
    seen = status(lambda: unary(channel, "Wait", "short")(b""))[0]
    verdict("and at the route's", seen == "DEADLINE_EXCEEDED" and 0.25 < time.monotonic() - begun < 2, seen)
    delays = []
    for _ in range(60):
        server.lines.clear()
        call = unary(channel, "Wait").future(b"")
        time.sleep(0.03)
        cancelled = time.time()
        call.cancel()
        until = time.monotonic() + PATIENCE
        while not server.lines and time.monotonic() < until:
            time.sleep(0.0005)
        delays.append(1000 * (float(server.lines[0].split()[1]) - cancelled))
    note(f"from the client's cancel to the endpoint's: median {median(delays):.1f} ms, most {max(delays):.1f} ms")
    verdict(f"a cancelled call is cancelled at the endpoint within {CANCELLED_WITHIN_MS} ms (median of 60)",
            median(delays) < CANCELLED_WITHIN_MS, delays)


def balancing():
    section("two endpoints")
    one, two, sick = Server(), Server(), Server(None, "--unavailable")
    gateway = Gateway(main=([one.port, two.port], ""), mixed=([sick.port, one.port], ""))
    channel = dial(gateway.web)
    seen = [int(unary(channel, "Who")(b"", timeout=PATIENCE)) for _ in range(1000)]
    share = seen.count(one.port)
    verdict("calls of one connection go to both in turn", 450 <= share <= 550, share)
    failed = [ended for _ in range(200) if (ended := status(lambda: unary(channel, "Who", "mixed")(b"", timeout=PATIENCE)))[0] != "OK"]
    same("what is unavailable is asked for elsewhere: 200 calls", [], failed)

    outcomes, over = [], threading.Event()

    def load():
        mine = dial(gateway.web)
        while not over.is_set():
            outcomes.append(status(lambda: unary(mine, "Echo")(b"x" * 1000, timeout=PATIENCE)))

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        time.sleep(0.7)
        two.stop()
        time.sleep(0.3)
        two.start()
    gateway.process.send_signal(signal.SIGHUP)
    time.sleep(1)
    over.set()
    for thread in threads:
        thread.join()
    # grpcio's server answers with CANCELLED what reaches it while it stops, with and without a gateway.
    stopped = [ended for ended in outcomes if ended == ("CANCELLED", "CANCELLED")]
    failed = [ended for ended in outcomes if ended[0] != "OK" and ended not in stopped]
    note(f"{len(outcomes)} calls while an endpoint went away and came back five times, and one reload; it answered "
         f"{len(stopped)} of them with CANCELLED")
    same("no other one failed", [], failed[:5])

    section("drain")
    say, chat = queue.Queue(), channel.stream_stream("/main.S/Chat")
    answers = chat(iter(say.get, None), timeout=PATIENCE)
    say.put(b"before")
    next(answers)
    gateway.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    say.put(b"after")
    verdict("a stream that is open goes on", next(answers) == b"after")
    say.put(None)
    verdict("and ends as it should", list(answers) == [] and answers.code() == grpc.StatusCode.OK)
    verdict("then the gateway is gone", gateway.process.wait(PATIENCE) == 0)
    for server in one, two, sick:
        server.stop()


def few_streams():
    section("an endpoint that takes 10 streams at once")
    server = Server(None, "--streams", "10")
    gateway = Gateway(main=([server.port], ""))
    channel = dial(gateway.web)
    unary(channel, "Who")(b"", timeout=PATIENCE)
    chats, says = [], []
    for _ in range(100):
        say = queue.Queue()
        chats.append(channel.stream_stream("/main.S/Chat")(iter(say.get, None), timeout=PATIENCE))
        says.append(say)
        say.put(b"x")
    verdict("100 streams are open at once", all(next(chat) == b"x" for chat in chats))
    for say in says:
        say.put(None)
    verdict("and end well", all(list(chat) == [] for chat in chats))
    gateway.stop()
    server.stop()


async def many_streams(port, connections, each):
    channels = [grpc.aio.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)])
                for _ in range(connections)]
    # grpcio itself fails where thousands are opened at one moment, without a gateway as well.
    opening = asyncio.Semaphore(200)
    go = asyncio.Event()
    opened = 0
    for channel in channels:
        await channel.channel_ready()

    async def stream(channel):
        nonlocal opened
        async with opening:
            call = channel.stream_stream("/main.S/Chat")()
            await call.write(b"hello")
            assert await call.read() == b"hello"
        opened += 1
        await go.wait()
        await call.write(b"bye")
        assert await call.read() == b"bye"
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        return await call.code()

    tasks = [asyncio.create_task(stream(channel)) for channel in channels for _ in range(each)]
    until = time.monotonic() + 100
    while opened < connections * each and time.monotonic() < until and not any(task.done() for task in tasks):
        await asyncio.sleep(0.1)
    yield opened
    go.set()
    codes = await asyncio.gather(*tasks, return_exceptions=True)
    for channel in channels:
        await channel.close()
    yield [code for code in codes if code != grpc.StatusCode.OK]


async def ten_thousand():
    section("10,000 streams at once")
    server = Server()
    gateway = Gateway(main=([server.port], ""))
    before = gateway.resident_kb()
    steps = many_streams(gateway.web, 100, 100)
    same("all of them are open and have answered", 10_000, await anext(steps))
    note(f"the gateway has {(gateway.resident_kb() - before) / 10_000:.1f} KiB for each")
    same("and all of them end well", [], (await anext(steps))[:3])
    gateway.stop()
    server.stop()


def buf_curl(gateway):
    section("buf curl, which asks the server for its schema")
    buf = Path(sys.executable).parent / "buf"

    def ask(base, method, *options, data="{}"):
        command = [buf, "curl", "--data", data, *options, f"{base}/grpc.health.v1.Health/{method}"]
        made = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, cwd=HERE)
        return made.returncode, made.stdout.strip() or made.stderr.strip()

    plain = [f"http://127.0.0.1:{gateway.web}", "Check", "--http2-prior-knowledge"]
    secure = [f"https://localhost:{gateway.secure}", "Check", "--cacert", str(HERE / "ca.pem")]
    serving = (0, '{"status":"SERVING"}')
    reflect = ["--reflect", "--reflect-protocol", "grpc-v1alpha"]
    schema = ["--schema", str(HERE / "health.binpb")]
    # gRPC-Web has no bidirectional calls, so none to reflection either: its schema comes from a file.
    (HERE / "health.binpb").write_bytes(described())
    for name, way, options in (
        ("gRPC", plain, ["--protocol", "grpc", *reflect]),
        ("gRPC over TLS", secure, ["--protocol", "grpc", *reflect]),
        ("gRPC-Web", plain[:2], ["--protocol", "grpcweb", *schema]),
        ("gRPC-Web over HTTP/2", plain, ["--protocol", "grpcweb", *schema]),
        ("gRPC-Web over TLS", secure, ["--protocol", "grpcweb", *schema]),
    ):
        code, said = ask(*way, *options)
        same(f"{name}: the health of a server", serving, (code, "".join(said.split())))
        code, said = ask(*way, *options, data='{"service": "none"}')
        verdict(f"{name}: a service that is not known is not found", code != 0 and "not_found" in said, said)


def described():
    """The health service's schema, as a FileDescriptorSet."""
    file = descriptor_pb2.FileDescriptorProto()
    health_pb2.DESCRIPTOR.CopyToProto(file)
    return descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString()


def main():
    certificates(HERE)
    plain, tls = Server(), Server(None, "--tls", str(HERE))
    believes = f'tls = {{ roots = "{HERE}/ca.pem", server_name = "localhost" }}'
    gateway = Gateway(main=([plain.port], ""), safe=([tls.port], believes), dead=([1], ""))
    ways = {"plain to plain": (gateway.web, False, "main"), "TLS to plain": (gateway.secure, True, "main"),
            "plain to TLS": (gateway.web, False, "safe"), "TLS to TLS": (gateway.secure, True, "safe")}
    for way, (port, secure, service) in ways.items():
        kinds(way, dial(port, secure), service)
    channel = dial(gateway.web)
    statuses(channel)
    deadlines(channel, plain)
    buf_curl(gateway)
    gateway.stop()
    balancing()
    few_streams()
    asyncio.run(ten_thousand())


try:
    main()
except Exception:
    traceback.print_exc()
    verdict("the proof runs to its end", False)
finally:
    for process in started:
        if process.poll() is None:
            process.kill()
print(f"\n{totals['PASS']} passed, {totals['FAIL']} failed")
sys.exit(totals["FAIL"] > 0)
