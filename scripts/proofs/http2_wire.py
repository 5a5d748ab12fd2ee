"""What the tables of http2_cases.py and http2_fields.py are made of: frames and field blocks, right or wrong, steps of
a conversation, and what a server may make of it.

A step is bytes to send as they are, a function that makes them, or something to wait for. A connection's stream 1 is an
upload that is under way when the case begins and ends after it, the case's own streams are 3 and above, and a new
request comes last: a stream error harms neither.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

from hpack.hpack import encode_integer
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
NAMES = ["DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE",
         "CONTINUATION"]
UNKNOWN = 0x77
END_STREAM = ACK = 0x1
END_HEADERS, PADDED, WITH_PRIORITY = 0x4, 0x8, 0x20
ALL = END_STREAM | END_HEADERS
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = range(1, 6)
RESERVED = 1 << 31
WINDOW, WINDOW_MAX = 65_535, (1 << 31) - 1
FRAME = 16_384
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Code(IntEnum):
    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


PROTOCOL, FLOW, CLOSED_CODE = Code.PROTOCOL_ERROR, Code.FLOW_CONTROL_ERROR, Code.STREAM_CLOSED
SIZE, COMPRESSION = Code.FRAME_SIZE_ERROR, Code.COMPRESSION_ERROR


# ----------------------------------------------------------------------------------------------- what has to come of it

@dataclass
class Goaway:
    """A connection error: GOAWAY with this code, and the end of the connection."""

    code: Code

    def __str__(self):
        return f"GOAWAY {self.code.name}"


@dataclass
class Rst:
    """A stream error: RST_STREAM with this code, once, and nothing happens to others."""

    stream: int
    code: Code

    def __str__(self):
        return f"RST_STREAM {self.code.name}"


@dataclass
class Status:
    """A whole response. `sees` is what the backend has to have seen: "method", "target", "body", "length", "trailers",
    or "fields", a list of values for each name."""

    code: int
    stream: int
    sees: dict

    @property
    def is_fine(self):
        return self.code < 400

    def __str__(self):
        return str(self.code)


@dataclass
class Refused:
    """Any response that says so."""

    stream: int

    def __str__(self):
        return "4xx or 5xx"


@dataclass
class Ignored:
    """Nothing but the end of what else is under way."""

    is_fine = True

    def __str__(self):
        return "ignored"


@dataclass
class Closed:
    """The end of the connection, without GOAWAY."""

    def __str__(self):
        return "closed"


def goaway(code):
    return [Goaway(code)]


def rst(code, stream=3):
    return [Rst(stream, code)]


def status(code=200, stream=3, **sees):
    return [Status(code, stream, sees)]


def any_of(*permitted):
    """Where the RFC leaves it to the server."""
    return [one for each in permitted for one in each]


IGNORED, CLOSED = [Ignored()], [Closed()]
# A message that is malformed is a stream error; a response with 400 may come before it, or end the stream (8.1.1).
BAD_REQUEST = any_of(rst(PROTOCOL), status(400))
# The stream's error or the connection's: the RFC says which code, and not where.
NO_INVALID_PREFACE = any_of(goaway(PROTOCOL), CLOSED)


@dataclass
class Case:
    # The section, of RFC 9113 unless it says "HPACK".
    rfc: str
    name: str
    steps: list
    # Any of these.
    expected: list
    # Of the request, what may reach the backend: "all" of it, "part" (not its end), "none".
    reaches: str = "all"
    # The client's first SETTINGS.
    settings: list = field(default_factory=list)
    # Whether a new request is possible afterwards.
    probe: bool = True
    # The steps are all that the client says; there is no stream 1.
    raw: bool = False
    # Streams that are reset besides, and with what.
    resets: dict = field(default_factory=dict)
    # With TLS that agrees on one of these; plain if empty.
    alpn: list = field(default_factory=list)
    # What else is wrong with what was seen, in words; "" for nothing.
    check: Callable | None = None


# Steps that wait: for a whole response; for a reset; until so many bytes of a response have come, and no more do; until
# the server has answered a PING.
@dataclass
class Answered:
    stream: int


@dataclass
class Reset:
    stream: int


@dataclass
class Got:
    stream: int
    count: int


@dataclass
class Synced:
    pass


@dataclass
class Upload:
    """DATA of so many bytes in all, without an end, each frame when both windows have room for it."""

    stream: int
    count: int


# ------------------------------------------------------------------------------------------------ frames and blocks

def frame(kind, flags=0, stream=0, payload=b"", length=None):
    """One frame, right or wrong."""
    length = len(payload) if length is None else length
    return length.to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def u32(number):
    return number.to_bytes(4, "big")


def settings(*pairs, flags=0, stream=0):
    return frame(SETTINGS, flags, stream, b"".join(name.to_bytes(2, "big") + u32(value) for name, value in pairs))


def window(stream, increment):
    return frame(WINDOW_UPDATE, 0, stream, u32(increment))


def reset(stream, code=Code.CANCEL):
    return frame(RST_STREAM, 0, stream, u32(code))


def priority(stream, on=0, weight=15, flags=0):
    return frame(PRIORITY, flags, stream, u32(on) + bytes([weight]))


def goodbye(last=0, code=0, debug=b"", stream=0, flags=0):
    return frame(GOAWAY, flags, stream, u32(last) + u32(code) + debug)


def ping(payload=b"8 octets", flags=0, stream=0):
    return frame(PING, flags, stream, payload)


def data(stream, payload=b"x", flags=0):
    return frame(DATA, flags, stream, payload)


def end(stream, payload=b""):
    return data(stream, payload, END_STREAM)


def integer(value, bits, pattern=0):
    first, *rest = encode_integer(value, bits)
    return bytes([first | pattern, *rest])


HUFFMAN = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
# How a literal is represented (RFC 7541 §6.2).
PLAIN, INDEXING, NEVER = 0x00, 0x40, 0x10


def string(text, huffman=False):
    text = HUFFMAN.encode(text) if huffman else text
    return integer(len(text), 7, 0x80 if huffman else 0) + text


def raw(text):
    return text if isinstance(text, bytes) else text.encode("latin-1")


def literal(name, value, form=PLAIN, huffman=False):
    return bytes([form]) + string(raw(name), huffman) + string(raw(value), huffman)


def named(index, value, form=PLAIN, huffman=False):
    return integer(index, 6 if form == INDEXING else 4, form) + string(raw(value), huffman)


def indexed(index):
    return integer(index, 7, 0x80)


def table_size(size):
    return integer(size, 5, 0x20)


def block(fields, **options):
    return b"".join(literal(name, value, **options) for name, value in fields)


GET = [(":method", "GET"), (":scheme", "http"), (":authority", "a.test"), (":path", "/")]
POST = [(":method", "POST"), *GET[1:]]


def changed(base, **values):
    return [(name, values.get(name[1:], value)) for name, value in base]


def without(base, name):
    return [one for one in base if one[0] != name]


def headers(fields, flags=ALL, stream=3, **options):
    return frame(HEADERS, flags, stream, block(fields, **options))


def get(stream=3, path="/"):
    return headers(changed(GET, path=path), ALL, stream)


def post(stream=3, path="/"):
    return headers(changed(POST, path=path), END_HEADERS, stream)


def sized(length, stream=3, path="/"):
    return headers([*changed(POST, path=path), ("content-length", str(length))], END_HEADERS, stream)


BLOCK = block(GET)
# Waits for an answer that does not come before the connection's end.
HALF_CLOSED = get(path="/wait")
OPEN = post(path="/wait")
CLOSED_BY_BOTH = [get(), Answered(3)]
CLOSED_BY_CLIENT = [OPEN, reset(3), Synced()]
# The answer comes before the end of the request, of which no more is wanted (8.1).
ANSWERED_EARLY = [post(path="/early"), Answered(3), Reset(3)]
CLOSED_BY_SERVER = [sized(1), data(3, b"ab"), Reset(3)]
