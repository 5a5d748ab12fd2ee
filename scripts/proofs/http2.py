"""Holds every conversation of http2_cases.py and http2_fields.py with Tidegate before a backend that is strict about
HTTP/1.1, and judges what comes of it: which error, of the stream or of the connection, and that nobody else is harmed.
Started by scripts/proof http2; TIDEGATE and PROOF_DIR say where things are. Arguments are parts of the names of cases:
only those are held then.

Each case is held twice, with its bytes whole and in pieces. Beside all of them another connection's upload goes on.
"""

import asyncio
import collections
import errno
import http.client
import json
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

from hpack import Decoder
from hpack.exceptions import HPACKError
from hyperframe.exceptions import HyperframeError
from hyperframe.frame import (ContinuationFrame, DataFrame, Frame, GoAwayFrame, HeadersFrame, PingFrame, RstStreamFrame,
                              SettingsFrame, WindowUpdateFrame)

from authority import certificates
from http2_cases import all_frames
from http2_fields import FORBIDDEN, all_fields
from http2_wire import (FRAME, GET, HEADERS, POST, PREFACE, WINDOW, Answered, Closed, Code, Goaway, Got, Ignored,
                        Refused, Reset, Rst, Status, Synced, Upload, block, changed)

HERE = Path(os.environ["PROOF_DIR"])
TIDEGATE = os.environ["TIDEGATE"]
PATIENCE_S = 5
# How long nothing more may come of what must stop.
QUIET_S = 0.03
SIDE, PROBE = 1, 2001
totals = {"PASS": 0, "FAIL": 0}
GIVEN = set()
chance = random.Random(9113)


def verdict(what, holds, seen=""):
    word = "PASS" if holds else "FAIL"
    totals[word] += 1
    print(f"{word} {what}" + ("" if holds else f": {str(seen)[:1500]}"), flush=True)


def free_port():
    """Below those that the kernel gives to clients."""
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


# ------------------------------------------------------------------------------------------------ the backend

class Backend:
    """Says in JSON what it was asked, or waits ("/wait"), or sends as many bytes as the path says ("/bytes/9")."""

    def __init__(self):
        self.port, self.begun, self.whole, self.broken = free_port(), [], [], []
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        serving = asyncio.start_server(self.connection, "127.0.0.1", self.port, limit=1 << 20, backlog=512)
        asyncio.run_coroutine_threadsafe(serving, self.loop).result(10)

    async def connection(self, reader, writer):
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                try:
                    await self.request(head.decode("latin-1"), reader, writer)
                except asyncio.IncompleteReadError:
                    # A request that was given up.
                    break
        except asyncio.IncompleteReadError as end:
            self.broken += [end.partial[:200]] * bool(end.partial)
        except (ValueError, asyncio.LimitOverrunError) as error:
            self.broken.append(error)
        except ConnectionError:
            pass
        writer.close()

    async def request(self, head, reader, writer):
        line, *lines = head[:-4].split("\r\n")
        method, target, version = line.split(" ")
        fields = [tuple(one.split(": ", 1)) for one in lines]
        if version != "HTTP/1.1" or any(len(one) != 2 for one in fields) or "\n" in head.replace("\r\n", ""):
            raise ValueError(head)
        self.begun.append(target)
        if target == "/early":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        body, trailers = await self.body(fields, reader)
        self.whole.append(target)
        if target in ("/wait", "/early"):
            await reader.read()
            return
        if target.startswith("/bytes/"):
            answer = b"x" * int(target.split("/")[2])
        else:
            said = {"method": method, "target": target, "fields": collections.defaultdict(list), "length": len(body),
                    "body": body[:1000].decode("latin-1"), "trailers": trailers}
            for name, value in fields:
                said["fields"][name.lower()].append(value)
            answer = json.dumps(said).encode()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(answer) + answer)
        await writer.drain()

    async def body(self, fields, reader):
        known = {name.lower(): value for name, value in fields}
        if "transfer-encoding" not in known:
            return await reader.readexactly(int(known.get("content-length", 0))), []
        if known["transfer-encoding"] != "chunked" or "content-length" in known:
            raise ValueError(fields)
        body = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += await reader.readexactly(size)
            if await reader.readexactly(2) != b"\r\n":
                raise ValueError("a chunk without its end")
        trailers = []
        while (line := (await reader.readuntil(b"\r\n")).decode("latin-1")[:-2]):
            trailers.append(line.split(": ", 1))
        return body, trailers


def unreachable():
    """An address where nobody accepts, however long one waits, and what keeps it so."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    kept = [listener]
    for _ in range(8):
        waits = socket.socket()
        waits.setblocking(False)
        if waits.connect_ex(listener.getsockname()) != errno.EINPROGRESS:
            raise RuntimeError("connected at once")
        kept.append(waits)
    time.sleep(0.1)
    return listener.getsockname()[1], kept


# ------------------------------------------------------------------------------------------------ the client

class Response:
    def __init__(self):
        self.status, self.body, self.is_ended, self.blocks = None, b"", False, []

    def json(self):
        try:
            return json.loads(self.body)
        except ValueError:
            return {}


class Talk:
    """A connection, and all that the server has said on it. `wrong` is what a server may not say at all."""

    def __init__(self, port, case=None, in_pieces=False):
        self.case, self.in_pieces = case, in_pieces
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if case and case.alpn:
            self.socket = tls_context(case.alpn).wrap_socket(self.socket, server_hostname="localhost")
        self.received, self.is_http1, self.end = b"", False, None
        self.answers, self.resets, self.goaways, self.pongs, self.acks = {}, {}, [], [], 0
        self.settings, self.windows, self.has_begun, self.wrong = {}, collections.defaultdict(int), False, []
        self.decoder, self.block, self.opened = Decoder(), None, 0
        self.table = dict(case.settings if case else []).get(1)

    def send(self, what):
        """Who has gone has said why."""
        step = len(what) if not self.in_pieces or len(what) > 3000 else 0
        at = 0
        try:
            while at < len(what):
                size = step or chance.randrange(1, 30)
                self.socket.sendall(what[at : at + size])
                at += size
        except OSError:
            pass

    def honest(self, *frames):
        self.send(b"".join(one.serialize() for one in frames))

    def open(self, stream, fields, is_whole):
        self.honest(HeadersFrame(stream, block(fields), flags=["END_HEADERS"] + ["END_STREAM"] * is_whole))

    def wait(self, until, seconds=PATIENCE_S):
        """Reads until that is so; whether it is."""
        deadline = time.monotonic() + seconds
        while not until():
            rest = deadline - time.monotonic()
            if self.end or rest <= 0:
                return False
            self.socket.settimeout(rest)
            try:
                piece = self.socket.recv(1 << 20)
            except TimeoutError:
                continue
            except OSError as error:
                self.end = f"reset ({type(error).__name__})"
                continue
            if not piece:
                self.end = "closed"
            self.received += piece
            self.take()
        return True

    def take(self):
        self.is_http1 = self.is_http1 or self.received.startswith(b"HTTP/1")
        while not self.is_http1 and len(self.received) >= 9:
            try:
                frame, length = Frame.parse_frame_header(memoryview(self.received[:9]))
                if length > FRAME:
                    self.wrong.append(f"a frame of {length}")
                if len(self.received) < 9 + length:
                    return
                frame.parse_body(memoryview(self.received[9 : 9 + length]))
            except HyperframeError as error:
                self.wrong.append(f"{type(error).__name__}: {error}")
                self.received = b""
                return
            self.received = self.received[9 + length :]
            self.frame(frame)

    def frame(self, frame):
        if not self.has_begun and (not isinstance(frame, SettingsFrame) or "ACK" in frame.flags):
            self.wrong.append(f"{frame} comes first")
        self.has_begun = True
        if self.block is not None and not isinstance(frame, ContinuationFrame):
            self.wrong.append(f"{frame} within a field block")
        stream = frame.stream_id
        if isinstance(frame, DataFrame | HeadersFrame | ContinuationFrame):
            if stream in self.resets or self.answer(stream).is_ended:
                self.wrong.append(f"{frame} after the stream's end")
            if stream % 2 == 0:
                self.wrong.append(f"{frame} on an even stream")
        match frame:
            case SettingsFrame() if "ACK" in frame.flags:
                self.acks += 1
                if self.table is not None and self.acks == 1:
                    self.decoder.max_allowed_table_size = self.table
            case SettingsFrame():
                self.settings.update(frame.settings)
                self.honest(SettingsFrame(flags=["ACK"]))
            case HeadersFrame():
                self.block = (frame, b"")
                self.fragment(frame)
            case ContinuationFrame():
                self.fragment(frame)
            case DataFrame():
                answer = self.answers.setdefault(stream, Response())
                answer.body += frame.data
                answer.is_ended = "END_STREAM" in frame.flags
            case RstStreamFrame():
                self.resets.setdefault(stream, []).append(frame.error_code)
            case GoAwayFrame():
                self.goaways.append(frame)
            case PingFrame() if "ACK" in frame.flags:
                self.pongs.append(frame.opaque_data)
            case WindowUpdateFrame():
                self.windows[stream] += frame.window_increment
            case _:
                self.wrong.append(f"{frame}, which nobody has asked for")

    def fragment(self, frame):
        first, data = self.block
        data += frame.data
        self.block = (first, data)
        if "END_HEADERS" not in frame.flags:
            return
        self.block = None
        answer = self.answers.setdefault(first.stream_id, Response())
        try:
            fields = [(str(name), str(value)) for name, value in self.decoder.decode(data)]
        except HPACKError as error:
            self.wrong.append(f"a field block: {type(error).__name__}: {error}")
            return
        names = [name for name, _ in fields]
        pseudo = [name for name in names if name.startswith(":")]
        if names[: len(pseudo)] != [":status"][: not answer.status] or set(names) & {*FORBIDDEN, "host"} or \
                any(name != name.lower() for name in names):
            self.wrong.append(f"a response with {names}")
        answer.blocks.append(data)
        answer.is_ended = "END_STREAM" in first.flags
        if answer.status is None:
            answer.status = int(dict(fields)[":status"])

    def sync(self):
        """Whether the server has taken all that was said and goes on."""
        payload = b"sync%04d" % len(self.pongs)
        self.honest(PingFrame(opaque_data=payload))
        return self.wait(lambda: payload in self.pongs)

    def answer(self, stream):
        return self.answers.get(stream, Response())

    def is_ended(self, stream):
        return self.answer(stream).is_ended

    def fields(self, stream):
        """What the backend has seen of a request."""
        return self.answer(stream).json().get("fields", {})

    def close(self):
        self.socket.close()

    def step(self, step):
        """What went wrong with it."""
        match step:
            case bytes():
                self.send(step)
            case Answered(stream):
                return not self.wait(lambda: self.is_ended(stream)) and f"no whole answer on stream {stream}"
            case Reset(stream):
                return not self.wait(lambda: stream in self.resets) and f"no reset of stream {stream}"
            case Synced():
                return not self.sync() and "no answer to PING"
            case Got(stream, count):
                def so_many():
                    return len(self.answer(stream).body)

                self.wait(lambda: so_many() >= count and self.answer(stream).status)
                self.wait(lambda: so_many() > count, QUIET_S)
                return not (self.sync() and so_many() == count) and f"{so_many()} bytes on stream {stream}, not {count}"
            case Upload(stream, count):
                return self.upload(stream, count)
            case _:
                self.send(step(self))
        return None

    def upload(self, stream, count):
        def room():
            return min(WINDOW + self.windows[0], self.settings.get(4, WINDOW) + self.windows[stream])

        sent = 0
        while sent < count:
            size = min(FRAME, count - sent)
            if not self.wait(lambda: room() >= size):
                return f"no window after {sent} bytes on stream {stream}"
            self.honest(DataFrame(stream, bytes(size)))
            self.windows[0] -= size
            self.windows[stream] -= size
            sent += size
        return None

    def __str__(self):
        if self.is_http1:
            return f"{self.received[:60]}; {self.end or 'goes on'}"
        said = [f"GOAWAY {named(one.error_code)} {bytes(one.additional_data).decode()!r}" for one in self.goaways]
        said += [f"RST_STREAM of {stream} {', '.join(map(named, codes))}" for stream, codes in self.resets.items()]
        for stream, one in self.answers.items():
            said.append(f"{one.status} on {stream}" + ("" if one.is_ended else ", not whole"))
        return "; ".join([*said, *self.wrong, self.end or "goes on"])


def named(code):
    return Code(code).name if code in list(Code) else f"{code:#x}"


def tls_context(protocols):
    context = ssl.create_default_context(cafile=HERE / "ca.pem")
    context.set_alpn_protocols(protocols)
    return context


# ------------------------------------------------------------------------------------------------ the judge

def complaints(expected, talk):
    """Why what was seen is not this."""
    failed = [*talk.wrong]
    match expected:
        case Goaway(code):
            codes = [one.error_code for one in talk.goaways]
            if codes != [code]:
                return [*failed, "not this GOAWAY"]
            last = talk.goaways[0].last_stream_id
            if not talk.case.raw and last < SIDE:
                failed.append(f"GOAWAY says that stream {SIDE} was not seen")
            if last > talk.opened:
                failed.append(f"GOAWAY says that stream {last} was seen")
            if not talk.end:
                failed.append("the connection stays")
            return failed
        case Closed():
            if any(one.status and one.status < 400 for one in talk.answers.values()):
                failed.append("an answer")
            if talk.is_http1 and not talk.received.startswith((b"HTTP/1.1 4", b"HTTP/1.1 505")):
                failed.append("an answer of HTTP/1.1")
            return failed if talk.end else [*failed, "the connection stays"]
    resets = dict(talk.resets)
    for stream, code in talk.case.resets.items():
        if resets.pop(stream, None) != [code]:
            failed.append(f"not this RST_STREAM of {stream}")
    if talk.goaways:
        failed.append("GOAWAY")
    if talk.end:
        failed.append("the connection's end")
    match expected:
        case Rst(stream, code):
            if resets.pop(stream, None) != [code]:
                failed.append("not this RST_STREAM")
            answer = talk.answer(stream)
            if answer.is_ended and answer.status < 400:
                failed.append(f"a whole answer, {answer.status}")
        case Status(code, stream, sees):
            answer = talk.answer(stream)
            if not answer.is_ended or answer.status != code:
                failed.append(f"no whole answer {code}")
            failed += differences(sees, answer.json())
        case Refused(stream):
            answer = talk.answer(stream)
            if not answer.is_ended or answer.status < 400:
                failed.append("no refusal")
    if isinstance(expected, Status | Refused) and resets.get(expected.stream) == [Code.NO_ERROR]:
        # The rest of the request is not wanted (8.1).
        resets.pop(expected.stream)
    if resets:
        failed.append(f"RST_STREAM of {list(resets)}")
    return failed


def fitting(talk):
    """Which of what is permitted it is."""
    return next((expected for expected in talk.case.expected if not complaints(expected, talk)), None)


def differences(expected, seen):
    failed = []
    for key, value in expected.items():
        if key == "fields":
            failed += [f"the backend saw {name}: {seen.get('fields', {}).get(name)}" for name, values in value.items()
                       if seen.get("fields", {}).get(name) != values]
        elif seen.get(key) != value:
            failed.append(f"the backend saw {key} {seen.get(key)!r:.80}")
    return failed


class Proof:
    def __init__(self, gateway, backend):
        self.gateway, self.backend = gateway, backend
        self.beside, self.uploaded, self.resets = Talk(gateway.port), 0, 0
        self.beside.send(PREFACE)
        self.beside.honest(SettingsFrame())
        self.beside.open(SIDE, changed(POST, path="/beside"), False)

    def hold(self, case, in_pieces):
        """What is wrong with it, and what was seen."""
        begun, whole = len(self.backend.begun), len(self.backend.whole)
        talk = Talk(self.gateway.secure if case.alpn else self.gateway.port, case, in_pieces)
        try:
            failed = self.conversation(case, talk)
            failed += self.others()
            failed += self.reached(case, talk, self.backend.begun[begun:], self.backend.whole[whole:])
            self.resets += str(talk.end).startswith("reset")
        finally:
            talk.close()
        return failed, fitting(talk), talk

    def conversation(self, case, talk):
        if not case.raw:
            talk.send(PREFACE)
            talk.honest(SettingsFrame(settings=dict(case.settings)))
            talk.open(SIDE, changed(POST, path="/side"), False)
            talk.honest(DataFrame(SIDE, b"in"))
            talk.wait(lambda: talk.settings and talk.acks)
        talk.opened = max([SIDE, *(stream_of(step) for step in case.steps)])
        failed = [trouble for step in case.steps if (trouble := talk.step(step))]

        if case.raw:
            talk.wait(lambda: fitting(talk))
        elif talk.sync():
            talk.honest(DataFrame(SIDE, b" time", flags=["END_STREAM"]))
            talk.opened = PROBE
            if case.probe:
                talk.open(PROBE, changed(GET, path="/probe"), True)
            talk.wait(lambda: talk.is_ended(SIDE) and (talk.is_ended(PROBE) or not case.probe))
            if talk.answer(SIDE).json().get("body") != "in time":
                failed.append("the upload beside it is not whole")
            if case.probe and talk.answer(PROBE).status != 200:
                failed.append("no new request")
            talk.wait(lambda: fitting(talk), 2)
        else:
            talk.wait(lambda: talk.end)
        if not fitting(talk):
            failed += [f"{expected}: {', '.join(complaints(expected, talk))}" for expected in case.expected]
        if case.check and (trouble := case.check(talk)):
            failed.append(trouble)
        return failed

    def reached(self, case, talk, begun, whole):
        begun = [target for target in begun if target not in ("/side", "/probe")]
        whole = [target for target in whole if target not in ("/side", "/probe")]
        failed = [f"not HTTP/1.1 at the backend: {self.backend.broken}"] * bool(self.backend.broken)
        if begun and any(one.error_code and one.last_stream_id < 3 for one in talk.goaways) and not case.raw:
            failed.append("GOAWAY says that stream 3 was not seen, and it was passed on")
        self.backend.broken = []
        if case.reaches == "none" and begun:
            failed.append(f"the backend got {begun}")
        if case.reaches == "part" and whole:
            failed.append(f"the backend got the whole of {whole}")
        return failed

    def others(self):
        """The other connection goes on. What the case has left on its way to the backend is there before."""
        self.beside.honest(DataFrame(SIDE, b"x"))
        self.uploaded += 1
        stream = SIDE + 2 * self.uploaded
        self.beside.open(stream, changed(GET, path="/probe"), True)
        self.beside.honest(WindowUpdateFrame(0, 10_000))
        self.beside.wait(lambda: self.beside.is_ended(stream))
        is_well = self.beside.answers.pop(stream, Response()).status == 200
        return [] if is_well else [f"the connection beside it: {self.beside}"]

    def end(self):
        self.beside.honest(DataFrame(SIDE, b"", flags=["END_STREAM"]))
        self.beside.wait(lambda: self.beside.is_ended(SIDE))
        seen = self.beside.answers.get(SIDE, Response()).json().get("length")
        verdict(f"another connection's upload, beside all of them, is whole: {self.uploaded} bytes",
                seen == self.uploaded, f"{seen}; {self.beside}")


def stream_of(step):
    """The highest stream that a step may have opened."""
    if not isinstance(step, bytes):
        return getattr(step, "stream", PROBE)
    highest, at = 0, 0
    while at + 9 <= len(step) and not step.startswith(PREFACE):
        length, stream = int.from_bytes(step[at : at + 3], "big"), int.from_bytes(step[at + 5 : at + 9], "big")
        if step[at + 3] == HEADERS:
            highest = max(highest, stream % (1 << 31))
        at += 9 + length
    return highest


# ------------------------------------------------------------------------------------------------ the gateway

class Gateway:
    def __init__(self, backend, stuck):
        self.port, self.secure, self.admin = free_port(), free_port(), free_port()
        (HERE / "gateway.toml").write_text(f"""
workers = 1
driver = "{os.environ.get("PROOF_DRIVER", "auto")}"
[admin]
address = "127.0.0.1:{self.admin}"
[log]
access = "off"
[listen.web]
address = "127.0.0.1:{self.port}"
[listen.secure]
address = "127.0.0.1:{self.secure}"
protocol = "https"
tls = {{ certificate = "edge.pem", key = "edge.key" }}
[[route]]
match = {{ path = "/stuck" }}
to = "stuck"
[[route]]
to = "backend"
[service.backend]
endpoints = ["127.0.0.1:{backend}"]
[service.stuck]
endpoints = ["127.0.0.1:{stuck}"]
""")
        with open(HERE / "gateway.log", "wb") as log:
            self.process = subprocess.Popen([TIDEGATE, "run", "-c", "gateway.toml"], cwd=HERE, stdout=log, stderr=log)
        STARTED.append(self.process)
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
        def nothing_is_left():
            return self.metric("tidegate_endpoint_in_flight") == 0 and self.metric("tidegate_buffer_bytes") == 0

        for _ in range(100):
            if nothing_is_left():
                break
            time.sleep(0.1)
        verdict("no request is in flight and no buffer is held", nothing_is_left(),
                [self.metric("tidegate_endpoint_in_flight"), self.metric("tidegate_buffer_bytes")])
        verdict("no panics", self.metric("tidegate_panics_total") == 0)
        self.process.terminate()
        verdict("the gateway drains and exits with 0", self.process.wait(40) == 0)


STARTED = []


def prove_protocols(gateway):
    """RFC 9113 §3: "h2c" is not for TLS, and HTTP/1.1 is not upgraded any more."""
    for offered in (["h2c"], ["h2c", "http/1.1"]):
        try:
            with tls_context(offered).wrap_socket(socket.create_connection(("127.0.0.1", gateway.secure), PATIENCE_S),
                                                  server_hostname="localhost") as secured:
                selected = secured.selected_alpn_protocol()
        except ssl.SSLError:
            selected = "an alert"
        verdict(f"§3.2 {' and '.join(offered)} in TLS: {selected}", selected != "h2c")
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=PATIENCE_S)
    upgrade = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABk"}
    connection.request("GET", "/", headers=upgrade)
    answer = connection.getresponse()
    fields = json.loads(answer.read()).get("fields", {})
    is_ignored = answer.status == 200 and not {"upgrade", "http2-settings"} & set(fields)
    verdict("§3.1 Upgrade: h2c is passed over, and not passed on", is_ignored, (answer.status, fields))


def main():
    certificates(HERE)
    backend = Backend()
    stuck, kept = unreachable()
    gateway = Gateway(backend.port, stuck)
    proof = Proof(gateway, backend)
    wanted = sys.argv[1:]
    cases = [case for case in (*all_frames(), *all_fields()) if not wanted or any(part in case.name for part in wanted)]
    bad_fields = []
    for case in cases:
        failed, fitted = [], {}
        for in_pieces in (False, True):
            wrong, fits, talk = proof.hold(case, in_pieces)
            fitted[str(fits)] = None
            failed += [f"{'in pieces: ' if in_pieces else ''}{'; '.join(wrong)} ({talk})"] * bool(wrong)
        if case.rfc == "8.2.1" and case.reaches == "none":
            bad_fields.append(talk.answer(3).status)
        section = case.rfc.replace("HPACK ", "HPACK §") if "HPACK" in case.rfc else f"§{case.rfc}"
        came = case.expected if failed else fitted
        verdict(f"{section} {case.name}: {' or '.join(map(str, came))}", not failed, failed)
    prove_protocols(gateway)
    proof.end()
    gateway.verdicts()
    for one in kept:
        one.close()
    right = sum(any(isinstance(one, Status | Ignored) and one.is_fine for one in case.expected) for case in cases)
    print(f"     {len(cases)} cases, each held twice: {len(cases) - right} violations, {right} that are none; "
          f"{proof.resets} connections ended by RST")
    # §8.2.1 recommends it.
    print(f"     {bad_fields.count(400)} of {len(bad_fields)} requests with forbidden characters had 400 for an answer")


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
    run()
