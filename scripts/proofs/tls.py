"""TLS and long-lived connections against real clients. Prints PASS and FAIL lines; see tls.sh."""

import asyncio
import base64
import hashlib
import http.client
import logging
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import websockets

HERE = Path(os.environ["PROOF_DIR"])
TIDEGATE = os.environ["TIDEGATE"]
totals = {"PASS": 0, "FAIL": 0}


def verdict(what, holds, seen=""):
    word = "PASS" if holds else "FAIL"
    totals[word] += 1
    print(f"{word} {what}" + ("" if holds else f": {str(seen)[:1500]}"), flush=True)


def missing(tool):
    if os.environ.get("SKIP_MISSING"):
        print(f"     {tool} is not here: skipped", flush=True)
    else:
        verdict(f"{tool} is installed", False, f"apt-get install {tool}")


def run(*command, limit=300, **options):
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit, cwd=HERE, **options)
    return done.stdout + done.stderr


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def certificates():
    """An authority, and a certificate of 90 days that it has signed."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    run("openssl", "req", "-x509", *key, "-days", "365", "-subj", "/CN=authority of this proof",
        "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-keyout", "ca.key", "-out", "ca.pem")
    run("openssl", "req", *key, "-subj", "/CN=localhost", "-keyout", "edge.key", "-out", "edge.csr")
    (HERE / "edge.ext").write_text(
        "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\n"
        "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
        "subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    said = run("openssl", "x509", "-req", "-in", "edge.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "90",
               "-extfile", "edge.ext", "-out", "leaf.pem")
    assert (HERE / "leaf.pem").exists(), said
    (HERE / "edge.pem").write_text((HERE / "leaf.pem").read_text() + (HERE / "ca.pem").read_text())


class Gateway:
    def __init__(self, backend, events):
        self.tls, self.plain, self.admin = free_port(), free_port(), free_port()
        self.config = HERE / "edge.toml"
        self.text = f"""
[admin]
address = "127.0.0.1:{self.admin}"
[log]
access = "off"
[listen.secure]
address = "127.0.0.1:{self.tls}"
protocol = "https"
tls = {{ certificate = "edge.pem", key = "edge.key" }}
[listen.plain]
address = "127.0.0.1:{self.plain}"
[service.backend]
endpoints = ["127.0.0.1:{backend}"]
[service.events]
endpoints = ["127.0.0.1:{events}"]
[[route]]
match = {{ path = "/events" }}
to = "events"
[[route]]
match = {{ path = "/fixed" }}
respond = {{ body = "fixed" }}
[[route]]
to = "backend"
"""
        self.config.write_text(self.text)
        self.errors = open(HERE / "gateway.log", "w")
        self.process = subprocess.Popen([TIDEGATE, "run", "-c", self.config], stderr=self.errors, cwd=HERE)
        for _ in range(100):
            try:
                if self.metric_page():
                    return
            except OSError:
                time.sleep(0.1)
        raise SystemExit("the gateway does not answer")

    def metric_page(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=5)
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()

    def metric(self, name):
        lines = [line for line in self.metric_page().splitlines() if line.startswith(name)]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def reload(self, number):
        before = self.metric("tidegate_config_generation")
        self.config.write_text(self.text + f"# reload {number}\n")
        self.process.send_signal(signal.SIGHUP)
        for _ in range(200):
            if self.metric("tidegate_config_generation") > before:
                return
            time.sleep(0.02)
        raise SystemExit(f"reload {number} did not happen")

    def resident_kib(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=40)


def trusting(version=None):
    context = ssl.create_default_context(cafile=HERE / "ca.pem")
    if version:
        context.minimum_version = context.maximum_version = version
    return context


def clients(gateway):
    url = f"https://localhost:{gateway.tls}/fixed"
    for flag in ("--tlsv1.2", "--tlsv1.3"):
        pinned = [flag, "--tls-max", flag[-3:]]
        verdict(f"curl {flag}", run("curl", "-sS", *pinned, "--cacert", "ca.pem", url) == "fixed")
    refused = run("curl", "-sS", "--cacert", "ca.pem", f"https://127.0.0.2:{gateway.tls}/fixed")
    verdict("curl refuses another name", "fixed" not in refused)
    for flag in ("-tls1_2", "-tls1_3"):
        said = run("sh", "-c", f"echo | openssl s_client -connect 127.0.0.1:{gateway.tls} -servername localhost "
                               f"-CAfile ca.pem -verify_return_error -alpn http/1.1 {flag}")
        good = "Verify return code: 0" in said and "ALPN protocol: http/1.1" in said
        verdict(f"openssl s_client {flag}", good, said)
    said = run("sh", "-c", f"(sleep 0.3; echo R; sleep 0.5) | "
                           f"openssl s_client -connect 127.0.0.1:{gateway.tls} -tls1_2 -CAfile ca.pem 2>&1")
    verdict("a renegotiation is refused", "RENEGOTIATING" in said and "no renegotiation" in said, said)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        connection = http.client.HTTPSConnection("localhost", gateway.tls, context=trusting(version), timeout=10)
        answers = []
        for _ in range(100):
            connection.request("GET", "/fixed")
            answers.append(connection.getresponse().read())
        verdict(f"Python ssl {version.name}, 100 requests on one connection", answers == [b"fixed"] * 100)
    chromium(gateway)


def chromium(gateway):
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not program:
        return missing("chromium")
    der = run("sh", "-c", "openssl x509 -in leaf.pem -pubkey -noout | openssl pkey -pubin -outform der | base64 -w0")
    pin = base64.b64encode(hashlib.sha256(base64.b64decode(der)).digest()).decode()
    seen = run(program, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={HERE}/chromium",
               f"--ignore-certificate-errors-spki-list={pin}", "--dump-dom",
               f"https://localhost:{gateway.tls}/fixed", limit=120)
    verdict("Chromium shows the page", ">fixed<" in seen, seen)


def scanners(gateway):
    address = f"127.0.0.1:{gateway.tls}"
    said = run(sys.executable, "-m", "sslyze", "--certinfo_ca_file", str(HERE / "ca.pem"),
               "--mozilla_config=intermediate", f"localhost:{gateway.tls}{{127.0.0.1}}")
    verdict("sslyze: compliant with Mozilla's intermediate", "OK - Compliant" in said, said[-1500:])
    program = shutil.which("testssl") or shutil.which("testssl.sh")
    if not program:
        return missing("testssl.sh")
    said = run(program, "--color", "0", "--quiet", "-U", "-p", "--openssl-timeout", "5", address, limit=400)
    # BREACH is about a compression that is not done here; every finding is said in capitals.
    found = [line for line in said.splitlines() if "VULNERABLE" in line]
    verdict("testssl.sh finds nothing vulnerable", "not vulnerable (OK)" in said and not found, found or said)


class Origin:
    """Echoing WebSockets, event streams and small answers, for the gateway to stand before."""

    async def start(self):
        self.ended = asyncio.Queue()
        self.port = free_port()
        self.server = await websockets.serve(self.socket, "127.0.0.1", self.port, process_request=self.plain,
                                             max_size=None, ping_interval=None, open_timeout=60)
        self.events_port = free_port()
        self.events = await asyncio.start_server(self.stream, "127.0.0.1", self.events_port)

    def plain(self, connection, request):
        if request.headers.get("Upgrade") is None:
            return connection.respond(200, "plain")

    async def socket(self, connection):
        async for message in connection:
            if message == "close 4000":
                await connection.close(4000, "as asked")
                return
            await connection.send(message)

    async def stream(self, reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        asyncio.create_task(self.note_end(reader))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        number = 0
        try:
            while True:
                event = f"data: {number}\n\n".encode()
                writer.write(f"{len(event):x}\r\n".encode() + event + b"\r\n")
                await writer.drain()
                number += 1
                await asyncio.sleep(0.2)
        except OSError:
            pass


    async def note_end(self, reader):
        try:
            await reader.read()
        except OSError:
            pass
        self.ended.put_nowait(time.monotonic())


async def departures(gateway, origin):
    """How soon an endpoint learns that the client of its stream has left."""
    while not origin.ended.empty():
        origin.ended.get_nowait()
    delays = []
    for index in range(40):
        is_tls = index % 2 == 0
        port, options = (gateway.tls, {"ssl": trusting(), "server_hostname": "localhost"}) if is_tls else (gateway.plain, {})
        reader, writer = await asyncio.open_connection("127.0.0.1", port, **options)
        writer.write(b"GET /events HTTP/1.1\r\nhost: localhost\r\n\r\n")
        await reader.readuntil(b"data: 1")
        begun = time.monotonic()
        if index % 4 < 2:
            writer.close()
        else:
            writer.transport.abort()
        delays.append(await asyncio.wait_for(origin.ended.get(), 10) - begun)
    delays.sort()
    print(f"     median {delays[20] * 1000:.1f} ms, the slowest {delays[-1] * 1000:.1f} ms", flush=True)
    verdict("a client that leaves a stream, by a close or a reset, is gone for its endpoint within 10 ms",
            delays[37] < 0.010, delays)


async def conversation(uri, context):
    """What a client sees of every kind of message: the same through the gateway as without it."""
    seen = []
    for deflate in (None, "deflate"):
        options = {"ssl": context, "compression": deflate, "max_size": None, "ping_interval": None}
        async with websockets.connect(uri, **options) as client:
            for size in (0, 1, 125, 126, 65535, 65536, 1 << 20):
                for message in ("x" * size, b"\x88" * size):
                    await client.send(message)
                    seen.append(await client.recv() == message)
            await client.send(["a", "fragmented ", "message"])
            seen.append(await client.recv())
            await client.send([b"\x00" * 70000, b"\x01" * 3])
            seen.append(len(await client.recv()))
            pong = await client.ping(b"payload")
            await asyncio.wait_for(pong, 10)
            seen.append("pong")
            await client.send("close 4000")
            try:
                await client.recv()
            except websockets.ConnectionClosed as closed:
                seen.append((closed.rcvd.code, closed.rcvd.reason))
        client = await websockets.connect(uri, **options)
        await client.close(3001, "bye")
        seen.append((client.close_code, client.close_reason))
    return seen


async def sockets(gateway, origin):
    direct = await conversation(f"ws://127.0.0.1:{origin.port}/", None)
    for name, uri, context in (
        ("plain", f"ws://127.0.0.1:{gateway.plain}/", None),
        ("TLS 1.2", f"wss://localhost:{gateway.tls}/", trusting(ssl.TLSVersion.TLSv1_2)),
        ("TLS 1.3", f"wss://localhost:{gateway.tls}/", trusting(ssl.TLSVersion.TLSv1_3)),
    ):
        seen = await conversation(uri, context)
        verdict(f"WebSocket conversations through {name}: {len(seen)} as without the gateway", seen == direct, seen)


STREAMS = 1000
RELOADS = 50


async def long_lived(gateway):
    """Event streams and WebSockets stay what they are while everything is reloaded."""
    counts, errors, stop = [0] * STREAMS, [], asyncio.Event()
    context = trusting()

    async def events(index):
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.tls, ssl=context, server_hostname="localhost")
        writer.write(b"GET /events HTTP/1.1\r\nhost: localhost\r\n\r\n")
        expected = 0
        while not stop.is_set():
            line = await asyncio.wait_for(reader.readline(), 30)
            if not line:
                errors.append(f"stream {index} ended after {expected}")
                return
            if line.startswith(b"data: "):
                if int(line[6:]) != expected:
                    errors.append(f"stream {index}: {line!r} in place of {expected}")
                    return
                expected += 1
                counts[index] = expected
        writer.close()

    async def socket_of(index):
        uri = f"wss://localhost:{gateway.tls}/"
        async with websockets.connect(uri, ssl=context, ping_interval=None, open_timeout=60) as client:
            number = 0
            while not stop.is_set():
                await client.send(f"{index} {number}")
                if await asyncio.wait_for(client.recv(), 30) != f"{index} {number}":
                    errors.append(f"socket {index} mixed up {number}")
                    return
                number += 1
                await asyncio.sleep(0.5)

    async def guarded(work, index):
        try:
            await work(index)
        except Exception as error:  # noqa: BLE001: whatever it is, it is told
            errors.append(f"{work.__name__} {index}: {error!r}")

    tasks = []
    for index in range(STREAMS):
        tasks.append(asyncio.create_task(guarded(events, index)))
        tasks.append(asyncio.create_task(guarded(socket_of, index)))
        if index % 50 == 49:
            await asyncio.sleep(0.3)
    for _ in range(120):
        if min(counts) > 0 or errors:
            break
        await asyncio.sleep(0.5)
    before = min(counts)
    for number in range(RELOADS):
        await asyncio.to_thread(gateway.reload, number)
        await asyncio.sleep(0.1)
    await asyncio.sleep(2)
    grown = min(counts) - before
    stop.set()
    await asyncio.gather(*tasks)
    verdict(f"{STREAMS} event streams and {STREAMS} WebSockets through TLS over {RELOADS} reloads: none cut, nothing lost",
            not errors and grown > 0, errors[:5] or grown)


async def half_handshakes(gateway, seconds=20, per_second=1000):
    """Clients that say hello and no more; others beside them."""
    context = trusting()
    hello = hello_bytes()
    before = gateway.resident_kib()
    held, peak, stop = [], [before], asyncio.Event()
    answers, failed, slowest = [0], [], [0.0]

    async def others():
        while not stop.is_set():
            begun = time.monotonic()
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", gateway.tls, ssl=context, server_hostname="localhost")
                writer.write(b"GET /fixed HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
                answer = await asyncio.wait_for(reader.read(), 10)
                assert answer.endswith(b"fixed"), answer
                writer.close()
                answers[0] += 1
            except Exception as error:  # noqa: BLE001
                failed.append(repr(error))
            slowest[0] = max(slowest[0], time.monotonic() - begun)
            await asyncio.sleep(0.05)

    other = [asyncio.create_task(others()) for _ in range(4)]
    begin = time.monotonic()
    sent = 0
    while time.monotonic() - begin < seconds:
        due = int((time.monotonic() - begin) * per_second)
        while sent < due:
            client = socket.socket()
            client.setblocking(False)
            try:
                client.connect(("127.0.0.1", gateway.tls))
            except BlockingIOError:
                pass
            held.append(client)
            sent += 1
            if len(held) >= 3000:
                held.pop(0).close()
        for client in held[-200:]:
            try:
                client.send(hello)
            except OSError:
                pass
        peak[0] = max(peak[0], gateway.resident_kib())
        await asyncio.sleep(0.01)
    stop.set()
    await asyncio.gather(*other)
    for client in held:
        client.close()
    print(f"     {sent} half handshakes in {seconds} s; {answers[0]} requests beside them, the slowest {slowest[0]:.2f} s; "
          f"resident {before // 1024} -> {peak[0] // 1024} MiB at most", flush=True)
    verdict("half handshakes at 1,000/s: nobody else fails", not failed and answers[0] > 50, failed[:3])
    verdict("half handshakes at 1,000/s: memory is bounded", peak[0] - before < 128 * 1024, peak)


def hello_bytes():
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting().wrap_bio(incoming, outgoing, server_hostname="localhost")
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


async def main():
    # A close is what half of the conversations are about.
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    certificates()
    origin = Origin()
    await origin.start()
    gateway = await asyncio.to_thread(Gateway, origin.port, origin.events_port)
    await asyncio.to_thread(clients, gateway)
    await asyncio.to_thread(scanners, gateway)
    await sockets(gateway, origin)
    await departures(gateway, origin)
    await half_handshakes(gateway)
    await long_lived(gateway)
    verdict("the gateway is still there", gateway.process.poll() is None)
    gateway.stop()
    print(f"\n{totals['PASS']} passed, {totals['FAIL']} failed")
    sys.stdout.flush()
    # Not by way of thousands of tasks that are all to be cancelled.
    os._exit(totals["FAIL"] > 0)


asyncio.run(main())
