"""Attacks a Tidegate over HTTP/2, one attack after the other, each on a connection of its own, and measures what that costs it
and others. Started by scripts/proof http2-attacks; TIDEGATE and PROOF_DIR say where things are.

For each: the growth of its memory, the processor time that it took beyond what the prober takes, the median delay of the
prober's requests meanwhile, the frames until it said ENHANCE_YOUR_CALM, and the requests that reached the backend.
"""

import http.client
import multiprocessing
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

HERE = Path(os.environ["PROOF_DIR"])
TIDEGATE = os.environ["TIDEGATE"]
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, _, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED = 1, 1, 4, 8
CALM, CANCEL = 11, 8
# The bounds.
RSS_KB_MAX, CPU_S_MAX, P50_MS_MAX = 16 * 1024, 0.5, 5.0
BACKEND_REQUESTS_MAX, FRAMES_MAX, HELD_KB_PER_STREAM_MAX = 200, 10_000, 64
TICKS = os.sysconf("SC_CLK_TCK")
LARGE = 50 << 20
totals = {"PASS": 0, "FAIL": 0}


def verdict(what, holds, seen=""):
    word = "PASS" if holds else "FAIL"
    totals[word] += 1
    print(f"{word} {what}" + ("" if holds else f": {str(seen)[:500]}"), flush=True)


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(name, value, kind=0):
    return bytes([kind]) + b"".join(length(len(text)) + text for text in (name, value))


def length(number):
    if number < 127:
        return bytes([number])
    out, rest = [127], number - 127
    while rest >= 128:
        out.append(rest % 128 + 128)
        rest //= 128
    return bytes([*out, rest])


def head(path=b"/", method=b"GET"):
    return (literal(b":method", method) + literal(b":scheme", b"http") + literal(b":authority", b"a.test")
            + literal(b":path", path))


def get(stream, path=b"/"):
    return frame(HEADERS, END_HEADERS | END_STREAM, stream, head(path))


def post(stream):
    return frame(HEADERS, END_HEADERS, stream, head(b"/", b"POST"))


class Backend:
    """Answers each request at once, with 50 MB for /large; /slow waits."""

    def __init__(self):
        self.requests = 0
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.socket.accept()
            threading.Thread(target=self.serve, args=[client], daemon=True).start()

    def serve(self, client):
        received = b""
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while piece := client.recv(65536):
                received += piece
                while b"\r\n\r\n" in received:
                    text, _, received = received.partition(b"\r\n\r\n")
                    if b" /probe " not in text:
                        self.requests += 1
                    if b" /slow" in text:
                        time.sleep(20)
                    size = LARGE if b" /large" in text else 2
                    client.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
                    for _ in range(size // 65536):
                        client.sendall(bytes(65536))
                    client.sendall(bytes(size % 65536))
        except OSError:
            pass


def probe(port, over, delays):
    """100 requests a second of somebody else, in a process of their own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    while not over.is_set():
        begun = time.perf_counter()
        connection.request("GET", "/probe")
        connection.getresponse().read()
        delays.append(1000 * (time.perf_counter() - begun))
        time.sleep(0.01)


class Gateway:
    def __init__(self, backend):
        self.port, self.admin = 20_000 + random.randrange(4000), 24_000 + random.randrange(4000)
        (HERE / "gateway.toml").write_text(
            f'workers = 1\n[admin]\naddress = "127.0.0.1:{self.admin}"\n[log]\naccess = "off"\n[listen.web]\naddress = "127.0.0.1:{self.port}"\n'
            f'[timeouts]\nwrite = "5s"\n[service.b]\nendpoints = ["127.0.0.1:{backend.port}"]\n[[route]]\nto = "b"\n')
        log = open(HERE / "gateway.log", "a")
        self.process = subprocess.Popen([TIDEGATE, "run", "-c", str(HERE / "gateway.toml")], stdout=log, stderr=log)
        until = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                break
            except OSError:
                assert time.monotonic() < until, "the gateway does not start: see gateway.log"
                time.sleep(0.05)

    def resident_kb(self):
        return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())[1])

    def cpu_s(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS


class Client:
    """Sends as fast as it can while another thread takes what comes."""

    def __init__(self, gateway, settings=b"", reads=True, small=False):
        self.socket = socket.socket()
        if small:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.connect(("127.0.0.1", gateway.port))
        self.socket.settimeout(20)
        self.code, self.is_ended, self.sent, self.received = None, False, 0, 0
        self.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, settings), count=0)
        if reads:
            threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        pending = b""
        try:
            while piece := self.socket.recv(1 << 20):
                self.received += len(piece)
                pending += piece
                while len(pending) >= 9:
                    size = int.from_bytes(pending[:3], "big")
                    if len(pending) < 9 + size:
                        break
                    if pending[3] == GOAWAY:
                        self.code = int.from_bytes(pending[13:17], "big")
                    pending = pending[9 + size:]
        except OSError:
            pass
        self.is_ended = True

    def send(self, data, count=1):
        """False once nobody takes it."""
        try:
            self.socket.sendall(data)
            self.sent += count
            return not self.is_ended
        except OSError:
            return False

    def wait_end(self, seconds=3):
        until = time.monotonic() + seconds
        while not self.is_ended and time.monotonic() < until:
            time.sleep(0.01)


def flood(frames, batch=50, most=20_000, opens=b""):
    """The same frame, or what a function makes for each number, until the connection ends."""
    def attack(gateway):
        client = Client(gateway)
        client.send(opens, count=0)
        number = 0
        while client.sent < most:
            pieces = [frames(number + n) if callable(frames) else frames for n in range(batch)]
            number += batch
            if not client.send(b"".join(pieces), count=batch):
                break
            # What lies in the kernel's buffers has not been looked at, and would count.
            time.sleep(0.003)
        client.wait_end()
        return client
    return attack


def continuation(payload):
    def attack(gateway):
        client = Client(gateway)
        client.send(frame(HEADERS, END_STREAM, 1, head()))
        while client.sent < 20_000 and client.send(frame(CONTINUATION, 0, 1, payload)):
            pass
        client.wait_end()
        return client
    return attack


def hpack_bomb(gateway):
    """One entry as large as the table, and then a byte for each copy of it."""
    client = Client(gateway)
    entry = literal(b"x", b"a" * 4000, 0x40)
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, head() + entry))
    for number in range(200):
        if not client.send(frame(HEADERS, END_HEADERS | END_STREAM, 3 + 2 * number, head() + b"\xbe" * 16_000)):
            break
    client.wait_end(1)
    return client


def crumbs(gateway):
    client = Client(gateway)
    block = head() + literal(b"cookie", b"", 0x40) + b"\xbe" * 15_000
    for number in range(200):
        if not client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1 + 2 * number, block)):
            break
    client.wait_end(1)
    return client


def stalled(gateway):
    """100 streams of 50 MB each, and no window for any."""
    client = Client(gateway, struct.pack(">HI", 4, 0))
    for number in range(100):
        client.send(get(1 + 2 * number, b"/large"))
    time.sleep(2)
    return client


def byte_windows(gateway):
    client = Client(gateway, struct.pack(">HI", 4, 1))
    for number in range(100):
        client.send(get(1 + 2 * number, b"/large"))
    for turn in range(60):
        for number in range(100):
            if not client.send(frame(WINDOW_UPDATE, 0, 1 + 2 * number, struct.pack(">I", 1))):
                return client
    time.sleep(0.5)
    return client


def deaf(gateway):
    """Asks for much, with the widest windows, and reads nothing."""
    client = Client(gateway, struct.pack(">HI", 4, (1 << 31) - 1), reads=False, small=True)
    client.send(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 30)))
    for number in range(100):
        client.send(get(1 + 2 * number, b"/large"))
    client.socket.settimeout(2)
    while client.sent < 20_000 and client.send(frame(PING, 0, 0, bytes(8)) * 50, count=50):
        pass
    time.sleep(1)
    return client


def slow_block(gateway):
    client = Client(gateway)
    client.send(frame(HEADERS, END_STREAM, 1, head()[:5]))
    for byte in head()[5:25]:
        if not client.send(frame(CONTINUATION, 0, 1, bytes([byte]))):
            break
        time.sleep(0.1)
    client.wait_end(1)
    return client


@dataclass
class Case:
    name: str
    attack: object
    # It has to be told to calm down.
    is_flood: bool = True
    # Streams that hold what they may.
    streams: int = 0


def reset_after(number):
    stream = 1 + 2 * number
    return get(stream) + frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL))


def made_to_reset(number):
    stream = 1 + 2 * number
    return post(stream) + frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", 0))


CASES = [
    Case("rapid reset", flood(reset_after, batch=20)),
    Case("rapid reset of what is slow", flood(lambda n: get(1 + 2 * n, b"/slow") + frame(RST_STREAM, 0, 1 + 2 * n, bytes(3) + b"\x08"))),
    Case("made to reset", flood(made_to_reset, batch=20)),
    Case("CONTINUATION", continuation(b"\x00" * 1000)),
    Case("empty CONTINUATION", continuation(b"")),
    Case("HPACK bomb", hpack_bomb, is_flood=False),
    Case("cookie crumbs", crumbs, is_flood=False),
    Case("PING", flood(frame(PING, 0, 0, bytes(8)))),
    Case("SETTINGS", flood(frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 65535)))),
    Case("PRIORITY", flood(frame(PRIORITY, 0, 1, struct.pack(">IB", 3, 7)))),
    Case("WINDOW_UPDATE of the connection", flood(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1)))),
    Case("WINDOW_UPDATE of a stream", flood(frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 1)), opens=post(1))),
    Case("empty DATA", flood(frame(DATA, 0, 1), opens=post(1))),
    Case("padded DATA without payload", flood(frame(DATA, PADDED, 1, b"\xff" + bytes(255)), opens=post(1))),
    Case("unknown frames", flood(frame(0xbe, 0, 0, bytes(100)))),
    Case("more streams than allowed", flood(lambda n: get(1 + 2 * n, b"/slow"))),
    Case("stalled windows", stalled, is_flood=False, streams=100),
    Case("windows of a byte", byte_windows, is_flood=False, streams=100),
    Case("nothing is read", deaf, is_flood=False, streams=100),
    Case("a field block by the byte", slow_block, is_flood=False),
]


def run(case):
    """On a gateway of its own, so that no attack pays for another."""
    backend = Backend()
    gateway = Gateway(backend)
    manager_over, delays = multiprocessing.Event(), multiprocessing.Manager().list()
    prober = multiprocessing.Process(target=probe, args=[gateway.port, manager_over, delays])
    prober.start()
    try:
        time.sleep(0.5)
        quiet = gateway.cpu_s()
        time.sleep(1)
        rate = gateway.cpu_s() - quiet
        before, cpu, seen = gateway.resident_kb(), gateway.cpu_s(), len(delays)
        peak, over = [before], threading.Event()

        def watch():
            while not over.is_set():
                peak.append(gateway.resident_kb())
                time.sleep(0.02)

        watching = threading.Thread(target=watch)
        watching.start()
        begun = time.monotonic()
        client = case.attack(gateway)
        used = gateway.cpu_s() - cpu - rate * (time.monotonic() - begun)
        over.set()
        watching.join()
        while len(delays) < seen + 5:
            time.sleep(0.02)
        noticed = median(list(delays)[seen:])
        client.socket.close()
        grown = max(peak) - before
        held = grown / case.streams if case.streams else 0
        print(f"\n== {case.name}: {grown / 1024:.1f} MiB, {max(0, used):.2f} s of processor, others' p50 {noticed:.1f} ms, "
              f"{client.sent} frames, {backend.requests} requests to the backend" + (f", {held:.0f} KiB held for each stream" if case.streams else ""))
        verdict("memory grows by 16 MiB at most", grown <= RSS_KB_MAX, f"{grown} KiB")
        verdict("processor time of half a second at most", used <= CPU_S_MAX, used)
        verdict("others wait 5 ms at most", noticed <= P50_MS_MAX, noticed)
        if case.is_flood:
            verdict("it is told to calm down, within 10,000 frames", client.code == CALM and client.sent <= FRAMES_MAX,
                    f"code {client.code} after {client.sent}")
            verdict("no more than 200 requests reach the backend", backend.requests <= BACKEND_REQUESTS_MAX, backend.requests)
        if case.streams:
            verdict("64 KiB at most are held for a stream", held <= HELD_KB_PER_STREAM_MAX, held)
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=5)
        connection.request("GET", "/")
        verdict("the next one is served", connection.getresponse().status == 200)
    finally:
        manager_over.set()
        prober.join(5)
        prober.kill()
        gateway.process.kill()


def honest():
    """A long download by a client that opens its windows often, and requests of which some are given up."""
    print("\n== honest clients are not taken for attackers")
    backend = Backend()
    gateway = Gateway(backend)
    try:
        client = Client(gateway, struct.pack(">HI", 4, 65_535))
        client.send(get(1, b"/large"))
        credited, until = 0, time.monotonic() + 30
        while client.received < LARGE and time.monotonic() < until and not client.is_ended:
            count = client.received - credited
            if count >= 8192:
                credited += count
                update = struct.pack(">I", count)
                client.send(frame(WINDOW_UPDATE, 0, 1, update) + frame(WINDOW_UPDATE, 0, 0, update))
            else:
                time.sleep(0.0002)
        verdict(f"50 MB with {client.sent} WINDOW_UPDATEs, small ones", client.received >= LARGE and client.code is None,
                (client.received, client.code))
        client = Client(gateway)
        for number in range(1000):
            client.send(get(1 + 2 * number))
            if number % 10 == 0:
                client.send(frame(RST_STREAM, 0, 1 + 2 * number, struct.pack(">I", CANCEL)))
            time.sleep(0.001)
        client.wait_end(0.5)
        verdict("1,000 requests, of which every tenth is given up", not client.is_ended and client.code is None, client.code)
    finally:
        gateway.process.kill()


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    for case in CASES:
        run(case)
    honest()
    print(f"\n{totals['PASS']} passed, {totals['FAIL']} failed")
    os._exit(totals["FAIL"] > 0)
