"""Holds every conversation of websocket_cases.py with a strict server, with and without Tidegate between, and compares
what both sides saw: each frame byte by byte, the closes, how the connections ended. Started by scripts/proof websocket;
TIDEGATE and PROOF_DIR say where things are. Arguments are parts of the names of cases: only those are held then.

Clients speak plain or TLS to the gateway, the gateway plain or TLS to the server, and the bytes of a client come whole
or in pieces: of one byte each where they are few, of any length where they are many. What a client without the gateway
sees of the same server is what it has to see.
"""

import asyncio
import errno
import hashlib
import http.client
import json
import os
import random
import select
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import websockets
from websockets.asyncio.server import ServerConnection
from wsproto.connection import Connection, ConnectionType
from wsproto.events import Event
from wsproto.extensions import PerMessageDeflate

from authority import certificates
from websocket_cases import CLOSE, FIN, HEAD, LONGEST, RST, TORN, Case, all_cases, text

HERE = Path(os.environ["PROOF_DIR"])
TIDEGATE = os.environ["TIDEGATE"]
PATIENCE_S = 30
AT_ONCE = 4
totals = {"PASS": 0, "FAIL": 0}
GIVEN = set()


def verdict(what, holds, seen=""):
    word = "PASS" if holds else "FAIL"
    totals[word] += 1
    print(f"{word} {what}" + ("" if holds else f": {str(seen)[:1500]}"), flush=True)


def free_port():
    """Below those that the kernel gives to clients, of which there are many here."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in GIVEN:
            GIVEN.add(port)
            return port


# ------------------------------------------------------------------------------------------------ the server

class Noting(ServerConnection):
    """Knows which bytes came after the client's head, and how the connection was lost."""

    head, received, lost, is_rude = b"", None, None, False

    def data_received(self, data):
        if self.is_rude:
            self.transport.write(b"\x88\x02\x03\xf1")
            return reset(self.transport)
        if self.received is None:
            self.head += data
            if b"\r\n\r\n" in self.head:
                self.received = hashlib.sha1(self.head.split(b"\r\n\r\n", 1)[1])
        else:
            self.received.update(data)
        super().data_received(data)

    def connection_lost(self, error):
        self.lost = "reset" if isinstance(error, OSError) else "clean"
        super().connection_lost(error)


def reset(transport):
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class Server:
    """Echoes what it is told, or does it. Says on standard output what it has seen of each connection."""

    async def run(self, plain, secure):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(HERE / "edge.pem", HERE / "edge.key")
        options = {"create_connection": Noting, "max_size": LONGEST, "ping_interval": None, "open_timeout": PATIENCE_S,
                   "close_timeout": PATIENCE_S, "select_subprotocol": self.select, "process_request": self.refuse}
        async with (websockets.serve(self.talk, "127.0.0.1", plain, **options),
                    websockets.serve(self.talk, "127.0.0.1", secure, ssl=context, **options)):
            print("ready", flush=True)
            await asyncio.to_thread(sys.stdin.read)

    def select(self, connection, offered):
        return next((one for one in offered if one in ("tide", "ebb")), None)

    def refuse(self, connection, request):
        if request.path.startswith("/refused"):
            return connection.respond(403, "not you\n")

    async def talk(self, connection):
        seen, count = hashlib.sha1(), 0
        obeys = connection.request.path.startswith("/obey")
        connection.pong = None
        try:
            if connection.request.path.startswith("/greet"):
                await connection.send("hello")
            async for message in connection:
                seen.update(repr(type(message)).encode() + (message.encode() if isinstance(message, str) else message))
                count += 1
                await (self.obey(connection, message) if obeys else connection.send(message))
        except websockets.ConnectionClosed:
            pass
        await connection.wait_closed()
        closed = connection.protocol.close_rcvd
        print(json.dumps({
            "path": connection.request.path.split("?")[0], "messages": count, "digest": seen.hexdigest(),
            "bytes": connection.received.hexdigest(), "close": closed and [closed.code, closed.reason],
            "lost": connection.lost,
        }), flush=True)

    async def obey(self, connection, message):
        what, _, rest = message.partition(" ")
        transport = connection.transport
        if what == "close":
            code, _, reason = rest.partition(" ")
            # Not `close`, which waits for the client here and would not take what it still says.
            connection.protocol.send_close(int(code), reason)
            connection.send_data()
        elif what == "raw":
            transport.write(bytes.fromhex(rest))
        elif what == "ping":
            connection.pong = await connection.ping(bytes.fromhex(rest))
        elif what == "fin":
            transport.write_eof() if transport.can_write_eof() else transport.close()
        elif what == "torn":
            transport.get_extra_info("socket").shutdown(socket.SHUT_WR)
        elif what == "rst":
            reset(transport)
        elif what == "rude":
            await connection.send("as you like")
            connection.is_rude = True
        elif what == "pongs":
            await connection.send("one" if connection.pong and connection.pong.done() else "none")
        else:
            await connection.send(message)


class Views:
    """What the server has told of its connections."""

    def __init__(self, lines):
        self.lines, self.seen, self.changed = lines, {}, threading.Condition()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.lines:
            view = json.loads(line)
            with self.changed:
                self.seen[view.pop("path")] = view
                self.changed.notify_all()

    def take(self, path):
        with self.changed:
            self.changed.wait_for(lambda: path in self.seen, PATIENCE_S)
            return self.seen.pop(path, None)


# ------------------------------------------------------------------------------------------------ the client

class Wire:
    """A connection, plain or TLS, that reads whenever it cannot write, and knows how it ended: "clean" by a FIN (with
    TLS: and a close_notify before), "cut" by a RST or a FIN alone, "silence" if nothing more came, "gone" by ourselves.
    """

    def __init__(self, port, context, take):
        self.take, self.end, self.is_broken, self.is_reset = take, None, False, False
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.tls = None
        if context:
            self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
            self.is_shaking = True
            self.shake_hands()
            while self.is_shaking and not self.end:
                self.wait()

    def shake_hands(self):
        try:
            self.tls.do_handshake()
            self.is_shaking = False
        except ssl.SSLWantReadError:
            pass
        self.write(self.outgoing.read())

    def send(self, data):
        if self.tls:
            for part in range(0, len(data), 1 << 16):
                self.tls.write(data[part : part + (1 << 16)])
            data = self.outgoing.read()
        self.write(data)

    def write(self, data):
        data = memoryview(data)
        while data and not self.is_broken:
            readable, writable, _ = select.select([] if self.end else [self.socket], [self.socket], [], PATIENCE_S)
            if readable:
                self.read()
            if writable:
                try:
                    data = data[self.socket.send(data) :]
                except BlockingIOError:
                    pass
                except OSError as error:
                    # Told once only, and EPIPE if a FIN was first.
                    self.is_broken, self.is_reset = True, error.errno == errno.ECONNRESET
            if not readable and not writable:
                self.is_broken, self.end = True, self.end or "silence"

    def wait(self):
        if select.select([self.socket], [], [], PATIENCE_S)[0]:
            self.read()
        else:
            self.end = "silence"

    def read(self):
        try:
            data = self.socket.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            self.end = "cut"
            return
        if not self.tls:
            self.take(data)
            if not data:
                self.end = "cut" if self.is_reset else "clean"
            return
        if data:
            self.incoming.write(data)
        else:
            self.incoming.write_eof()
        if self.is_shaking:
            return self.shake_hands()
        try:
            while plain := self.tls.read(1 << 16):
                self.take(plain)
            self.end = "clean"
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.end = "clean"
        except ssl.SSLError:
            self.end = "cut"

    def finish(self, how):
        """Says that nothing follows."""
        if how == RST:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.socket.close()
            self.end = "gone"
            return
        if self.tls and how == FIN:
            try:
                self.tls.unwrap()
            except ssl.SSLError:
                pass
            self.write(self.outgoing.read())
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass


class Inbox:
    """Splits what comes into frames, as they are."""

    def __init__(self):
        self.rest, self.frames = bytearray(), []

    def take(self, data):
        self.rest += data
        while True:
            length = self.length()
            if length is None or len(self.rest) < length:
                return
            self.frames.append(bytes(self.rest[:length]))
            del self.rest[:length]

    def length(self):
        if len(self.rest) < 2:
            return None
        length, at = self.rest[1] & 127, 2
        if length > 125:
            at = 4 if length == 126 else 10
            if len(self.rest) < at:
                return None
            length = int.from_bytes(self.rest[2:at], "big")
        return at + length + (4 if self.rest[1] & 128 else 0)


def brief(data):
    return data.hex() if len(data) < 150 else f"{len(data)} bytes, {hashlib.sha1(data).hexdigest()}"


class Talk:
    """One case, held once."""

    def __init__(self, way, path, in_pieces):
        self.inbox, self.head, self.sent = Inbox(), None, hashlib.sha1()
        self.path, self.in_pieces, self.chance = path, in_pieces, random.Random(path)
        self.early = b""
        self.wire = Wire(way.port, way.context, self.take)

    def take(self, data):
        if self.head is not None:
            return self.inbox.take(data)
        self.early += data
        if b"\r\n\r\n" in self.early:
            self.head, rest = self.early.split(b"\r\n\r\n", 1)
            self.inbox.take(rest)

    def send(self, data):
        if self.head:
            self.sent.update(data)
        for piece in self.pieces(data) if self.in_pieces else [data]:
            self.wire.send(piece)

    def pieces(self, data):
        """Single bytes at first, where heads are; larger ones the longer it gets."""
        at, largest = 0, max(1, len(data) // 100)
        while at < len(data):
            size = 1 if at < 300 else self.chance.randint(1, largest)
            yield data[at : at + size]
            at += size

    def open(self, case):
        extension = f"Sec-WebSocket-Extensions: {case.offer}\n" if case.offer else ""
        head = (case.head or HEAD).replace("{path}", self.path) + extension + "\n"
        self.send(head.replace("\n", "\r\n").encode())
        while self.head is None and not self.wire.end:
            self.wire.wait()
        lines = (self.head or b"").decode().split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in lines[1:])
        self.is_open = " 101 " in lines[0]
        agreed = fields.get("sec-websocket-extensions")
        extensions = []
        if agreed:
            extensions = [PerMessageDeflate()]
            extensions[0].finalize(agreed)
        self.peer = Connection(ConnectionType.CLIENT, extensions)
        return lines[0], sorted(field for field in fields.items() if field[0].startswith("sec-websocket-"))

    def hold(self, case):
        opened = self.open(case)
        for step in case.steps if self.is_open else []:
            if isinstance(step, bytes):
                self.send(step)
            elif isinstance(step, Event):
                self.send(self.peer.send(step))
            elif isinstance(step, int):
                while len(self.inbox.frames) < step and not self.wire.end:
                    self.wire.wait()
            else:
                self.wire.finish(step)
        while self.is_open and not self.wire.end:
            self.wire.wait()
        if self.wire.end != "gone":
            self.wire.finish(FIN)
            self.wire.socket.close()
        return opened

    def seen(self):
        """Data and control frames apart: the server's own are not in one order when both are due."""
        data = [brief(frame) for frame in self.inbox.frames if not frame[0] & 8]
        control = [brief(frame) for frame in self.inbox.frames if frame[0] & 8]
        return {"data": data, "control": control, "rest": brief(self.inbox.rest), "end": self.wire.end}

    def closed(self):
        closes = [frame for frame in self.inbox.frames if frame[0] & 15 == CLOSE]
        if not closes:
            return None
        return int.from_bytes(closes[0][2:4], "big") if len(closes[0]) > 3 else 1005


class Way:
    def __init__(self, name, port, context, server):
        self.name, self.port, self.context, self.server = name, port, context, server


def held(case, way, in_pieces, number, views):
    """What both sides saw."""
    path = f"/{case.server}/{number}"
    talk = Talk(way, path, in_pieces)
    opened = talk.hold(case)
    if not talk.is_open:
        return {"opened": opened, "data": [], "end": "refused"}, None
    seen = {"opened": opened, **talk.seen(), "server": views.take(path)}
    if seen["server"]:
        arrived = seen["server"].pop("bytes") == talk.sent.hexdigest()
        if way.server == "plain" and case.end == "clean":
            seen["server"]["all bytes"] = arrived
        # What comes after its own last word the server's TLS takes for an error.
        if way.server == "TLS" and case.server_hears == "clean":
            seen["server"]["lost"] = "any"
    return seen, talk.closed()


class Proof:
    def __init__(self, ways, views):
        self.ways, self.views, self.numbers = ways, views, iter(range(1 << 30))

    def case(self, case):
        """What to say of it: its name, whether it is as it should be, and what was seen."""
        wrong, expected, what = [], {}, ""
        for way in self.ways:
            for in_pieces in (False, True):
                try:
                    seen, code = held(case, way, in_pieces, next(self.numbers), self.views)
                except Exception as error:  # noqa: BLE001: whatever it is, it is told
                    wrong.append(f"{way.name}, {'pieces' if in_pieces else 'whole'}: {type(error).__name__}: {error}")
                    continue
                if way.server not in expected:
                    expected[way.server] = seen
                    what = f"{len(seen['data'])} back, {code or 'no close'}, {seen['end']}"
                    wrong += self.of_itself(case, seen, code)
                if seen != expected[way.server]:
                    said = difference(expected[way.server], seen)
                    wrong.append(f"{way.name}, {'pieces' if in_pieces else 'whole'}: {said}")
        return f"{case.name}: {what}", wrong

    def of_itself(self, case, seen, code):
        """Without the gateway: is it what the standard says?"""
        facts = {"closed with": (case.code, code), "messages back:": (case.back, len(seen["data"]))}
        if seen["end"] != "refused":
            server = seen["server"] or {}
            facts["for the client the end is"] = case.end, seen["end"]
            facts["for the server it is"] = case.server_hears, server.get("lost")
            facts["all bytes have arrived:"] = True, server.get("all bytes", True)
        return [f"{what} {is_}, not {should}" for what, (should, is_) in facts.items()
                if is_ != should and "any" not in (is_, should)]


def difference(expected, seen):
    return "; ".join(f"{key}: {str(expected[key])[:300]} became {str(seen[key])[:300]}"
                     for key in expected if expected[key] != seen[key])


def main():
    certificates(HERE)
    plain, secure = free_port(), free_port()
    server = start([sys.executable, "-u", __file__, "serve", str(plain), str(secure)], stdin=subprocess.PIPE,
                   stdout=subprocess.PIPE, text=True)
    assert server.stdout.readline() == "ready\n"
    gateway = Gateway(plain, secure)
    trusted = ssl.create_default_context(cafile=HERE / "ca.pem")
    ways = [Way("without the gateway, plain", plain, None, "plain"),
            Way("without the gateway, TLS", secure, trusted, "TLS")]
    for of_server in ("plain", "TLS"):
        ways.append(Way(f"plain, then {of_server}", gateway.ports["plain", of_server], None, of_server))
        ways.append(Way(f"TLS, then {of_server}", gateway.ports["TLS", of_server], trusted, of_server))
    views = Views(server.stdout)
    proof = Proof(ways, views)
    wanted = sys.argv[1:]
    cases = [case for case in all_cases() if not wanted or any(part in case.name for part in wanted)]
    for said, wrong in ThreadPoolExecutor(AT_ONCE).map(proof.case, cases):
        verdict(said, not wrong, wrong)
    for way in ways[2:]:
        if way.context:
            torn_client(way, views)
    gateway.verdicts()
    print(f"     {len(cases)} cases, each held {2 * len(ways)} times", flush=True)


def torn_client(way, views):
    """A TLS client that goes without a word: nobody may take that for an end."""
    for name, steps in {"at once": [], "after a message": [text(), 1], "in a frame": [text()[:4]]}.items():
        path = f"/echo/torn-{way.server}-{name[-3:]}"
        Talk(way, path, False).hold(Case(name, [*steps, TORN]))
        view = views.take(path)
        verdict(f"8 the client's TLS is cut without a word {name}, {way.name}: the server is reset",
                view and view["lost"] == "reset", view)


class Gateway:
    def __init__(self, plain, secure):
        self.ports = {(client, server): free_port() for client in ("plain", "TLS") for server in ("plain", "TLS")}
        self.admin = free_port()
        text = f"""
driver = "{os.environ.get("PROOF_DRIVER", "auto")}"
[admin]
address = "127.0.0.1:{self.admin}"
[log]
access = "off"
[service.plain]
endpoints = ["127.0.0.1:{plain}"]
[service.TLS]
endpoints = ["127.0.0.1:{secure}"]
tls = {{ roots = "ca.pem", server_name = "localhost" }}
"""
        for (client, server), port in self.ports.items():
            text += f'[listen.{client}-{server}]\naddress = "127.0.0.1:{port}"\n'
            if client == "TLS":
                text += 'protocol = "https"\ntls = { certificate = "edge.pem", key = "edge.key" }\n'
            text += f'[[route]]\nmatch = {{ listener = "{client}-{server}" }}\nto = "{server}"\n'
        (HERE / "gateway.toml").write_text(text)
        self.process = start([TIDEGATE, "run", "-c", "gateway.toml"], stderr=open(HERE / "gateway.log", "w"))
        for _ in range(100):
            try:
                return self.metrics() and None
            except OSError:
                time.sleep(0.1)
        raise SystemExit(f"the gateway does not answer: {(HERE / 'gateway.log').read_text()[-500:]}")

    def metrics(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=5)
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()

    def metric(self, name):
        lines = [line for line in self.metrics().splitlines() if line.startswith(name)]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def verdicts(self):
        for _ in range(100):
            if self.metric("tidegate_tunnels_active") == 0:
                break
            time.sleep(0.1)
        verdict("no tunnel is left", self.metric("tidegate_tunnels_active") == 0)
        verdict("no panics", self.metric("tidegate_panics_total") == 0)
        self.process.terminate()
        verdict("the gateway drains and exits with 0", self.process.wait(40) == 0)


STARTED = []


def start(command, **options):
    STARTED.append(subprocess.Popen(command, cwd=HERE, **options))
    return STARTED[-1]


def run():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        main()
    except BaseException as error:  # noqa: BLE001: a signal as well
        verdict("the proof runs to its end", False, f"{type(error).__name__}: {error}")
        traceback.print_exc()
    for process in STARTED:
        if process.poll() is None:
            process.kill()
        process.wait()
    print(f"\n{totals['PASS']} passed, {totals['FAIL']} failed", flush=True)
    # Not by way of threads that still wait for something.
    os._exit(totals["FAIL"] > 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(Server().run(*map(int, sys.argv[2:4])))
    else:
        run()
