"""The conversations of websocket.py, in the order of the Autobahn test suite's sections: what the client does, and what
a server that keeps RFC 6455 and RFC 7692 makes of it.

A step is bytes to send as they are, an event that wsproto makes frames of, a number (wait until so many frames have
come in all), or an end. What a client says and what the server answers on its own may cross; so a case waits where the
order would be anybody's guess.
"""

import json
import random
import struct
import zlib
from dataclasses import dataclass

from websockets.utils import apply_mask
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

CONTINUED, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
OPCODES = {CONTINUED: "continuation", TEXT: "text", BINARY: "binary", CLOSE: "close", PING: "ping", PONG: "pong"}
MIB = 1 << 20
# The server takes no longer messages.
LONGEST = 16 * MIB
DEFLATE = "permessage-deflate"
# Steps that end the connection: by a FIN (with TLS, after a close_notify), by a FIN without one, by a RST.
FIN, TORN, RST = "fin", "torn", "rst"
chance = random.Random(6455)
HEAD = """GET {path} HTTP/1.1
Host: localhost
Connection: Upgrade
Upgrade: websocket
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==
Sec-WebSocket-Version: 13
"""


@dataclass
class Case:
    name: str
    steps: list
    # Of the server's Close: the code, 1005 for one without; None for none at all.
    code: int | None = 1000
    # How many messages come back.
    back: int = 0
    # What the client offers in Sec-WebSocket-Extensions.
    offer: str | None = None
    # What the server does with messages: "echo", or "obey"; "greet" says something at once.
    server: str = "echo"
    # The client's first words.
    head: str = ""
    # How the client hears of the end ("clean", "cut", "gone" by itself), and the server.
    end: str = "clean"
    server_hears: str = "clean"


def frame(opcode, payload=b"", fin=True, rsv=0, masked=True, mask=None, form=None):
    """One frame, right or wrong. `form` is the length's: 7, 16 or 64 bits, the shortest unless it says otherwise."""
    length = len(payload)
    form = form or (7 if length < 126 else 16 if length < 65536 else 64)
    high = masked << 7
    head = bytes([fin << 7 | rsv << 4 | opcode])
    head += {7: lambda: bytes([high | length]), 16: lambda: struct.pack("!BH", high | 126, length),
             64: lambda: struct.pack("!BQ", high | 127, length)}[form]()
    if not masked:
        return head + payload
    mask = mask or chance.randbytes(4)
    return head + mask + apply_mask(payload, mask)


def text(what="hello", **options):
    return frame(TEXT, what.encode() if isinstance(what, str) else what, **options)


def binary(what=b"\x00\xff\x88", **options):
    return frame(BINARY, what, **options)


def close(code=1000, reason=b"", **options):
    return frame(CLOSE, struct.pack("!H", code) + reason, **options)


def fragments(opcode, parts):
    """One message in as many frames."""
    last = len(parts) - 1
    return [frame(CONTINUED if at else opcode, part, fin=at == last) for at, part in enumerate(parts)]


def cut(data, size):
    return [data[at : at + size] for at in range(0, len(data), size)]


def prose(size):
    """Text of so many bytes with characters of one to four of them."""
    words = "Gezeiten, marées, приливы, 潮汐, 🌊 and tides; "
    data = (words * (size // len(words.encode()) + 1)).encode()[:size]
    whole = data.decode(errors="ignore").encode()
    return whole + b"." * (size - len(whole))


def openings():
    hello = [text(), 1, close()]
    added = {"a cookie and an origin": "Cookie: a=b\nOrigin: https://localhost\n",
             "one subprotocol": "Sec-WebSocket-Protocol: tide\n",
             "three subprotocols": "Sec-WebSocket-Protocol: flow, ebb, tide\n",
             "subprotocols in two fields": "Sec-WebSocket-Protocol: flow\nSec-WebSocket-Protocol: tide\n",
             "a subprotocol that is not there": "Sec-WebSocket-Protocol: flow\n",
             "deflate": "Sec-WebSocket-Extensions: permessage-deflate\n",
             "extensions in two fields": "Sec-WebSocket-Extensions: x-unheard-of\n"
                                         "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\n",
             "a field of 8,000 bytes": f"X-Long: {'x' * 8000}\n"}
    for name, fields in added.items():
        yield Case(f"0 an opening with {name}", hello, back=1, head=HEAD + fields)
    changed = {"in lower case": HEAD.replace("Connection: Upgrade", "connection: upgrade").replace("Sec-W", "sec-w"),
               "in capitals": HEAD.replace("websocket\n", "WEBSOCKET\n").replace("Upgrade:", "UPGRADE:"),
               "with keep-alive": HEAD.replace(": Upgrade", ": keep-alive, Upgrade"),
               "with two Connection fields": HEAD.replace("Connection", "Connection: keep-alive\nConnection"),
               "with a query": HEAD.replace("{path}", "{path}?a=b%20c&d")}
    for name, head in changed.items():
        yield Case(f"0 an opening {name}", hello, back=1, head=head)
    yield Case("0 a server that speaks first", [1, text("and you"), 2, close()], back=2, server="greet")
    refused = {"without a key": HEAD.replace("Sec-WebSocket-Key", "X-Key"),
               "with a short key": HEAD.replace("dGhlIHNh", ""), "with two keys": HEAD + "Sec-WebSocket-Key: AAAA\n",
               "of version 8": HEAD.replace("13", "8"),
               "of no version": HEAD.replace("Sec-WebSocket-Version", "X-Version"),
               "without Upgrade": HEAD.replace("Upgrade: websocket\n", ""),
               "without Connection": HEAD.replace("Connection: Upgrade\n", ""),
               "of something else": HEAD.replace("websocket\n", "chat\n"),
               "with extensions that are no list": HEAD + "Sec-WebSocket-Extensions: a b;;c=\n",
               "that the server does not want": HEAD.replace("{path}", "/refused")}
    for name, head in refused.items():
        yield Case(f"0 an opening {name}", hello, code=None, head=head)


def framing():
    for opcode, make in ((TEXT, prose), (BINARY, chance.randbytes)):
        for size in (0, 1, 125, 126, 127, 128, 4096, 65535, 65536, 65537):
            yield Case(f"1 {OPCODES[opcode]} of {size} bytes", [frame(opcode, make(size)), 1, close()], back=1)
        for mask in (b"\x00" * 4, b"\xff" * 4, b"\x00\xff\x81\x80"):
            yield Case(f"1 {OPCODES[opcode]} behind the mask {mask.hex()}",
                       [frame(opcode, make(100), mask=mask), 1, close()], back=1)
        for form in (16, 64):
            yield Case(f"1 {OPCODES[opcode]} of 5 bytes with a length in {form} bits",
                       [frame(opcode, make(5), form=form), 1, close()], back=1)
    for opcode, name in OPCODES.items():
        yield Case(f"1 {name} without a mask", [frame(opcode, b"ab", masked=False)], code=1002)


def pings():
    for what in (b"", b"Hello, world!", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", b"\xfe" * 125):
        yield Case(f"2 ping of {len(what)} bytes", [frame(PING, what), 1, close()])
    yield Case("2 ping of 126 bytes", [frame(PING, b"\xfe" * 126)], code=1002)
    yield Case("2 pong that nobody asked for", [frame(PONG), close()])
    yield Case("2 pong of 125 bytes that nobody asked for", [frame(PONG, b"x" * 125), close()])
    yield Case("2 pong and ping", [frame(PONG, b"pong"), frame(PING, b"ping"), 1, close()])
    yield Case("2 pong of 126 bytes", [frame(PONG, b"x" * 126)], code=1002)
    yield Case("2 ten pings at once", [b"".join(frame(PING, b"%d" % at) for at in range(10)), 10, close()])
    yield Case("2 ten pings, each awaited",
               [step for at in range(10) for step in (Ping(b"%d" % at), at + 1)] + [close()])
    yield Case("2 a ping after each message",
               [step for at in range(10) for step in (text(f"{at}"), 2 * at + 1, frame(PING, b"%d" % at), 2 * at + 2)]
               + [close()], back=10)
    yield Case("2 the server's ping", [text("ping 74696465"), 1, frame(PONG, b"tide"), text("pongs"), 2, close()],
               back=1, server="obey")
    yield Case("2 a pong to a ping that the server has not sent", [frame(PONG, b"tide"), text("pongs"), 1, close()],
               back=1, server="obey")


def reserved_bits():
    for rsv in range(1, 8):
        for opcode, name in OPCODES.items():
            payload = b"\x03\xe8" if opcode == CLOSE else b"ab"
            yield Case(f"3 {name} with the reserved bits {rsv:03b}", [frame(opcode, payload, rsv=rsv)], code=1002)
        yield Case(f"3 a message, then one with the reserved bits {rsv:03b}, then a ping",
                   [text(), 1, text(rsv=rsv) + frame(PING)], code=1002, back=1)
    for rsv in (1, 2, 3):
        yield Case(f"3 text with the reserved bits {rsv:03b}, with deflate", [text(rsv=rsv)], code=1002, offer=DEFLATE)
    for opcode in (CONTINUED, CLOSE, PING, PONG):
        payload = b"\x03\xe8" if opcode == CLOSE else b""
        yield Case(f"3 {OPCODES[opcode]} with the bit of deflate", [frame(opcode, payload, rsv=4)], code=1002,
                   offer=DEFLATE)


def opcodes():
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        yield Case(f"4 opcode {opcode}", [frame(opcode)], code=1002)
        yield Case(f"4 opcode {opcode} with a payload", [frame(opcode, b"reserved opcode payload")], code=1002)
        yield Case(f"4 a message, opcode {opcode}, a ping", [text(), 1, frame(opcode) + frame(PING)], code=1002, back=1)


def fragmentation():
    hello = [b"frag", b"men", b"ted"]
    yield Case("5 ping in two frames", [frame(PING, b"a", fin=False) + frame(CONTINUED, b"b")], code=1002)
    yield Case("5 pong in two frames", [frame(PONG, b"a", fin=False) + frame(CONTINUED, b"b")], code=1002)
    yield Case("5 close in two frames", [frame(CLOSE, b"\x03", fin=False) + frame(CONTINUED, b"\xe8")], code=1002)
    for opcode in (TEXT, BINARY):
        name = OPCODES[opcode]
        first, second, third = fragments(opcode, hello)
        yield Case(f"5 {name} in three frames", [first, second, third, 1, close()], back=1)
        yield Case(f"5 {name} in three frames at once", [first + second + third, 1, close()], back=1)
        yield Case(f"5 {name} in three frames, a ping after each",
                   [first, frame(PING, b"1"), 1, second, frame(PING, b"2"), 2, third, 3, frame(PING, b"3"), 4, close()],
                   back=1)
        yield Case(f"5 {name} in three frames, a pong after each",
                   [first, frame(PONG), second, frame(PONG), third, 1, close()], back=1)
        yield Case(f"5 {name} in three frames, the middle ones empty",
                   [b"".join(fragments(opcode, [b"a", b"", b"", b"z"])), 1, close()], back=1)
        yield Case(f"5 {name} in three empty frames",
                   [b"".join(fragments(opcode, [b"", b"", b""])), 1, close()], back=1)
        yield Case(f"5 {name} within {name}", [first + frame(opcode, b"x")], code=1002)
        yield Case(f"5 close within {name}", [first + close()], code=1002)
    for fin in (False, True):
        said = "last" if fin else "not the last"
        yield Case(f"5 a continuation of nothing, {said}", [frame(CONTINUED, b"x", fin=fin)], code=1002)
        yield Case(f"5 a message, then a continuation of nothing, {said}",
                   [text(), 1, frame(CONTINUED, b"x", fin=fin) + text()], code=1002, back=1)
        yield Case(f"5 a message in two frames, then a continuation of nothing, {said}",
                   [*fragments(TEXT, [b"a", b"b"]), 1, frame(CONTINUED, b"x", fin=fin)], code=1002, back=1)
    yield Case("5 one message in 200 frames of a byte",
               [b"".join(fragments(TEXT, cut(prose(200), 1))), 1, close()], back=1)
    yield Case("5 one message in 4,097 frames: one more than the server takes",
               [b"".join(fragments(BINARY, [b"x"] * 4097))], code=1009)
    yield Case("5 two messages in frames with pings, by wsproto",
               [TextMessage("one ", message_finished=False), Ping(b"a"), 1, TextMessage("two"), 2,
                BytesMessage(b"3", message_finished=False), BytesMessage(b"", message_finished=False), Ping(b"b"), 3,
                BytesMessage(b"4"), 4, CloseConnection(1000, "done")], back=2)


GOOD_UTF8 = {
    "nothing special": "Hello-µ@ßöäüàá-UTF-8!!", "κόσμε": "κόσμε", "zero": "\0", "U+007F": "\x7f",
    "U+0080": "\x80", "U+07FF": "\u07ff", "U+0800": "\u0800", "U+D7FF": "\ud7ff", "U+E000": "\ue000",
    "U+FFFD": "\ufffd", "U+FFFE": "\ufffe", "U+FFFF": "\uffff", "U+10000": "\U00010000", "U+1FFFF": "\U0001ffff",
    "U+10FFFF": "\U0010ffff", "a byte order mark": "\ufefftext", "an emoji of many": "👩‍👩‍👧‍👦",
    "all lengths": "aé€🌊" * 5,
}
BAD_UTF8 = {
    "a lone continuation": "80", "another lone one": "bf", "seven lone ones": "80 bf 80 bf 80 bf 80",
    "C0 80, overlong": "c0 80", "C1 BF, overlong": "c1 bf", "C0 AF, overlong": "c0 af",
    "E0 80 AF, overlong": "e0 80 af", "E0 9F BF, overlong": "e0 9f bf", "F0 80 80 AF, overlong": "f0 80 80 af",
    "F0 8F BF BF, overlong": "f0 8f bf bf", "five bytes": "f8 88 80 80 80", "six bytes": "fc 84 80 80 80 80",
    "the first surrogate": "ed a0 80", "the last surrogate": "ed bf bf", "a pair of surrogates": "ed a0 80 ed b0 80",
    "U+110000": "f4 90 80 80", "F5": "f5 80 80 80", "FE": "fe", "FF": "ff", "FE FE FF FF": "fe fe ff ff",
    "a start, then a space": "c3 20", "two bytes, cut": "c3", "three bytes, cut": "e2 82",
    "four bytes, cut": "f0 9f 8c", "four bytes, cut early": "f0",
    "good, bad, good": "ce ba e1 bd b9 cf 83 ce bc ce b5 ed a0 80 65 64 69 74 65 64",
}


def utf8():
    for name, good in GOOD_UTF8.items():
        data = good.encode()
        yield Case(f"6 good: {name}", [text(data), 1, close()], back=1)
        yield Case(f"6 good: {name}, a frame for each byte",
                   [b"".join(fragments(TEXT, cut(data, 1))), 1, close()], back=1)
    for name, bad in BAD_UTF8.items():
        data = bytes.fromhex(bad)
        yield Case(f"6 bad: {name}", [text(data)], code=1007)
        yield Case(f"6 bad: {name}, a frame for each byte",
                   [b"".join(fragments(TEXT, cut(b"ok" + data, 1)))], code=1007)
        yield Case(f"6 bad as text, good as binary: {name}", [binary(data), 1, close()], back=1)
    yield Case("6 a message, then a bad one, then more",
               [text(), 1, text(b"\xed\xa0\x80"), text()], code=1007, back=1)
    yield Case("6 a ping in the middle of a character",
               [frame(TEXT, b"\xe2\x82", fin=False), frame(PING, b"x"), 1, frame(CONTINUED, b"\xac"), 2, close()],
               back=1)


def closes():
    for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999):
        yield Case(f"7 close {code}", [close(code, b"as I like")], code=code)
    for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535):
        yield Case(f"7 close {code}, which nobody may send", [close(code)], code=1002)
    yield Case("7 close without a code", [frame(CLOSE)], code=1005)
    yield Case("7 close with half a code", [frame(CLOSE, b"\x03")], code=1002)
    yield Case("7 close with a reason of 123 bytes", [close(1000, prose(123))])
    yield Case("7 close with a reason of 124 bytes", [close(1000, prose(124))], code=1002)
    yield Case("7 close with a reason that is no UTF-8", [close(1000, b"\xce\xba\xe1\xbd\xb9\xed\xa0\x80")], code=1007)
    yield Case("7 close with a reason that is cut", [close(1000, b"\xe2\x82")], code=1007)
    yield Case("7 a message, then a close", [text(), 1, close()], back=1)
    yield Case("7 a close, then a ping", [close() + frame(PING)])
    yield Case("7 a close, then a message", [close() + text()])
    yield Case("7 a close, then another", [close() + close(1001)])
    yield Case("7 a close, then what is no frame", [close() + b"\xff\xff\xff"])
    yield Case("7 half a message, then a close, then the rest",
               [text("half", fin=False) + close() + frame(CONTINUED)], code=1002)
    yield Case("7 a close after 256 KiB", [binary(chance.randbytes(256 * 1024)), 1, close()], back=1)
    yield Case("7 a close by wsproto", [CloseConnection(4321, "tide")], code=4321)
    for code, reason in ((1000, ""), (1001, "going"), (1011, "ü" * 61), (3000, "x"), (4999, "last")):
        yield Case(f"7 the server closes with {code}, the client with the same",
                   [text(f"close {code} {reason}"), 1, close(code)], code=code, server="obey")
    yield Case("7 the server closes, the client with another code",
               [text("close 1001 going"), 1, close(4000, b"then I too")], code=1001, server="obey")
    yield Case("7 the server closes, the client says more before it does",
               [text("close 1000 enough"), 1, text("one more thing") + frame(PING) + close()], server="obey")
    yield Case("7 the server closes, the client just goes", [text("close 1000 enough"), 1, FIN], server="obey")


def ends():
    """By one side alone, without a Close or in the middle of something."""
    large = binary(chance.randbytes(300_000))
    before = {"at once": ([], 0), "after a message": ([text(), 1], 1), "in a frame's head": ([large[:1]], 0),
              "in a frame's length": ([large[:7]], 0), "in a payload": ([large[:200_000]], 0),
              "in a message of two frames": ([text("half", fin=False)], 0),
              "after half a close": ([close()[:3]], 0)}
    for name, (steps, back) in before.items():
        yield Case(f"8 the client sends FIN {name}", [*steps, FIN], code=None, back=back)
        yield Case(f"8 the client sends RST {name}", [*steps, RST], code=None, back=back, server_hears="reset",
                   end="gone")
    short = frame(TEXT, b"half of it", masked=False)
    before = {"at once": b"", "in a frame's head": short[:1], "in a payload": short[:7], "after a message": short}
    for name, sent in before.items():
        start = [text(f"raw {sent.hex()}")] if sent else []
        back = int(sent == short)
        # What the client has of half a frame can't be awaited as a frame is: the server says a word before.
        yield Case(f"8 the server sends FIN {name}", [*start, text("fin")], code=None, back=back, server="obey")
        yield Case(f"8 the server sends RST {name}", [*start, *[1] * back, text("rst")], code=None, back=back,
                   server="obey", end="cut")
    yield Case("8 the server's TLS is cut without a word", [text(), 1, text("torn")], code=None, server="obey", back=1,
               end="any")
    yield Case("8 the server closes and resets while the client still sends",
               [text("rude"), 1, binary(bytes(4 * MIB))], code=1009, server="obey", back=1, end="cut")


def strange_servers():
    """What no server should send goes to the client as it is: it is the client's to judge."""
    for name, sent in {
        "a frame with a mask": frame(TEXT, b"masked", mask=b"tide"),
        "reserved bits": frame(TEXT, b"bits", rsv=7, masked=False),
        "an opcode of none": frame(11, b"eleven", masked=False),
        "text that is no UTF-8": frame(TEXT, b"\xff\xfe", masked=False),
        "a continuation of nothing": frame(CONTINUED, b"x", masked=False),
        "a ping of 126 bytes": frame(PING, b"x" * 126, masked=False),
        "a length of 64 bits for three bytes": frame(BINARY, b"abc", masked=False, form=64),
        "more after its close": frame(CLOSE, b"\x03\xe8", masked=False) + frame(TEXT, b"more", masked=False),
        "a close of one byte": frame(CLOSE, b"\x03", masked=False),
        "frames and a ping in one piece": frame(TEXT, b"a", masked=False) * 50 + frame(PING, b"b", masked=False),
    }.items():
        count = {"more after its close": 2, "frames and a ping in one piece": 51}.get(name, 1)
        yield Case(f"8 the server sends {name}", [text(f"raw {sent.hex()}"), count, FIN], code="any", back="any",
                   server="obey")


def limits():
    for size in (256 * 1024, MIB, 4 * MIB, LONGEST):
        said = f"{size // 1024} KiB"
        yield Case(f"9 text of {said}", [text(prose(size)), 1, close()], back=1)
        yield Case(f"9 binary of {said}", [binary(chance.randbytes(size)), 1, close()], back=1)
    data = chance.randbytes(4 * MIB)
    for size in (2048, 16 * 1024, 256 * 1024, MIB):
        yield Case(f"9 binary of 4096 KiB in frames of {size // 1024} KiB",
                   [b"".join(fragments(BINARY, cut(data, size))), 1, close()], back=1)
    yield Case("9 text of 1024 KiB in frames of 1000 bytes",
               [b"".join(fragments(TEXT, cut(prose(MIB), 1000))), 1, close()], back=1)
    yield Case("9 a byte more than the server takes", [binary(bytes(LONGEST + 1))], code=1009)
    yield Case("9 a head that promises more than the server takes",
               [frame(BINARY, b"", form=64)[:2] + struct.pack("!Q", LONGEST + 1) + b"mask"], code=1009)
    yield Case("9 a head that promises all that there is", [b"\x82\xff" + b"\xff" * 8 + b"mask"], code=1009)
    yield Case("9 frames that are too much together",
               [frame(BINARY, bytes(LONGEST), fin=False) + frame(CONTINUED, b"x")], code=1009)
    yield Case("9 a message, a byte more than the server takes, and a ping",
               [text(), 1, binary(bytes(LONGEST + 1)) + frame(PING)], code=1009, back=1)


def many():
    for size in (0, 1, 100, 1024, 16 * 1024):
        for opcode, make in ((TEXT, prose), (BINARY, chance.randbytes)):
            one = frame(opcode, make(size))
            yield Case(f"10 50 times {OPCODES[opcode]} of {size} bytes, each awaited",
                       [step for at in range(50) for step in (one, at + 1)] + [close()], back=50)
            count = 500 if size < 1000 else 100
            yield Case(f"10 {count} times {OPCODES[opcode]} of {size} bytes at once", [one * count, count, close()],
                       back=count)
    yield Case("10 text of 64 KiB in frames of 1300 bytes",
               [b"".join(fragments(TEXT, cut(prose(65536), 1300))), 1, close()], back=1)
    yield Case("10 1,000 messages of random lengths and kinds",
               [b"".join(frame(chance.choice((TEXT, BINARY)), prose(chance.randrange(600))) for _ in range(1000)),
                1000, close()], back=1000)


OFFERS = [
    DEFLATE, f"{DEFLATE}; client_max_window_bits", f"{DEFLATE}; client_max_window_bits=9",
    f"{DEFLATE}; server_max_window_bits=9", f"{DEFLATE}; server_no_context_takeover",
    f"{DEFLATE}; client_no_context_takeover",
    f"{DEFLATE}; client_no_context_takeover; server_no_context_takeover; client_max_window_bits=10;"
    " server_max_window_bits=10",
    f"{DEFLATE}; server_max_window_bits=8, {DEFLATE}; client_max_window_bits=15; server_max_window_bits=15",
    f"{DEFLATE}; unheard_of, {DEFLATE}", f"x-unheard-of, {DEFLATE}", f"{DEFLATE}; server_max_window_bits=16",
]


def records(size):
    """JSON of about so many bytes."""
    rows = [{"id": at, "name": chance.choice(["ebb", "flow", "spring", "neap"]), "level": chance.random()}
            for at in range(size // 60 + 1)]
    return json.dumps(rows)


def compression():
    kinds = {"records": lambda: TextMessage(records(chance.choice((16, 300, 5000, 70_000)))),
             "noise": lambda: BytesMessage(chance.randbytes(chance.choice((16, 300, 5000, 70_000)))),
             "zeros": lambda: BytesMessage(bytes(chance.choice((0, 1, 300, 5000, 300_000))))}
    for offer in OFFERS:
        for kind, make in kinds.items():
            steps = [step for at in range(12) for step in (make(), at + 1)]
            yield Case(f"12 twelve times {kind}, offered {offer}", [*steps, CloseConnection(1000)], back=12,
                       offer=offer)
    flate = zlib.compressobj(wbits=-15)
    squeezed = (flate.compress(b"squeezed " * 50) + flate.flush(zlib.Z_SYNC_FLUSH))[:-4]
    half = len(squeezed) // 2
    one = Case("13 a message, squeezed", [frame(TEXT, squeezed, rsv=4), 1, close()], back=1)
    yield one
    yield Case("13 the same in two frames, a ping between",
               [frame(TEXT, squeezed[:half], fin=False, rsv=4), frame(PING, b"x"), 1,
                frame(CONTINUED, squeezed[half:]), 2, close()], back=1)
    yield Case("13 the same in a frame for each byte",
               [frame(TEXT, squeezed[:1], fin=False, rsv=4)
                + b"".join(fragments(CONTINUED, cut(squeezed[1:], 1))), 1, close()], back=1)
    yield Case("13 the same, with an empty last frame",
               [frame(TEXT, squeezed, fin=False, rsv=4) + frame(CONTINUED), 1, close()], back=1)
    yield Case("13 an empty message, squeezed", [frame(TEXT, b"\x00", rsv=4), 1, close()], back=1)
    yield Case("13 a message as it is, though it could be squeezed", [text(), 1, close()], back=1)
    yield Case("13 squeezed, as it is, squeezed",
               [frame(TEXT, squeezed, rsv=4), 1, text(), 2, binary(), 3, close()], back=3)
    yield Case("13 the bit again on a continuation",
               [frame(TEXT, squeezed[:half], fin=False, rsv=4) + frame(CONTINUED, squeezed[half:], rsv=4)], code=1002)
    yield Case("13 what cannot be unsqueezed", [frame(TEXT, b"\xff\xff\xff\xff", rsv=4)], code=1002)
    flate = zlib.compressobj(wbits=-15)
    bad = (flate.compress(b"\xed\xa0\x80") + flate.flush(zlib.Z_SYNC_FLUSH))[:-4]
    yield Case("13 squeezed text that is no UTF-8", [frame(TEXT, bad, rsv=4)], code=1007)
    flate = zlib.compressobj(9, wbits=-15)
    bomb = (flate.compress(bytes(4 * LONGEST)) + flate.flush(zlib.Z_SYNC_FLUSH))[:-4]
    yield Case(f"13 {len(bomb) // 1024} KiB that would be {4 * LONGEST // MIB} MiB", [frame(BINARY, bomb, rsv=4)],
               code=1009)
    flate = zlib.compressobj(wbits=-15)
    large = (flate.compress(bytes(LONGEST)) + flate.flush(zlib.Z_SYNC_FLUSH))[:-4]
    yield Case(f"13 {len(large) // 1024} KiB that are 16 MiB", [frame(BINARY, large, rsv=4), 1, close()], back=1)


def all_cases():
    for section in (openings, framing, pings, reserved_bits, opcodes, fragmentation, utf8, closes, ends,
                    strange_servers, limits, many, compression):
        for case in section():
            if case.name.startswith("13"):
                case.offer = DEFLATE
            yield case
