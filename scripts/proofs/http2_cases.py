"""What a client may do wrong with frames, streams, windows and settings, each with the section of RFC 9113 that it is
about and all that this section lets a server answer; and what looks wrong and is not. http2_fields.py has the same for
messages and for HPACK, http2.py holds the cases.
"""

from http2_wire import (ACK, ALL, ANSWERED_EARLY, BLOCK, CLOSED, CLOSED_BY_BOTH, CLOSED_BY_CLIENT, CLOSED_BY_SERVER,
                        CLOSED_CODE, COMPRESSION, CONTINUATION, DATA, ENABLE_PUSH, END_HEADERS, END_STREAM, FLOW, FRAME,
                        GET, GOAWAY, HALF_CLOSED, HEADERS, HEADER_TABLE_SIZE, IGNORED, INDEXING, INITIAL_WINDOW_SIZE,
                        MAX_CONCURRENT_STREAMS, MAX_FRAME_SIZE, NAMES, NO_INVALID_PREFACE, OPEN, PADDED, PING, POST,
                        PREFACE, PRIORITY, PROTOCOL, PUSH_PROMISE, RESERVED, RST_STREAM, SETTINGS, SIZE, UNKNOWN,
                        WINDOW, WINDOW_MAX, WINDOW_UPDATE, WITH_PRIORITY, Answered, Case, Code, Got, Reset, Synced,
                        Upload, any_of, block, changed, data, end, frame, get, goaway, goodbye, headers, indexed,
                        literal, ping, post, priority, reset, rst, settings, sized, status, u32, window, without)


def acknowledged(count):
    return lambda talk: "" if talk.acks == count else f"{talk.acks} of {count} SETTINGS acknowledged"


def answered_by(*octets):
    """The response's field block begins so."""
    return lambda talk: "" if talk.answer(3).blocks[0].startswith(bytes(octets)) else "its size updates are missing"


def pongs_begin(*payloads):
    return lambda talk: "" if talk.pongs[: len(payloads)] == [*payloads] else f"PINGs answered: {talk.pongs}"


# ------------------------------------------------------------------------------------------------ 3 and 4

def beginnings():
    begun = [PREFACE, settings()]
    wrong = {
        "another second half": b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        "a second half in lower case": PREFACE.replace(b"SM", b"sm"),
        "LF instead of CR LF": PREFACE.replace(b"\r\n", b"\n") + bytes(8),
        "a space too many": PREFACE.replace(b"* ", b"*  "),
        "HTTP/2.1": PREFACE.replace(b"2.0", b"2.1"), "in lower case": PREFACE.lower(),
        "the frames alone": settings() + get(1),
    }
    for name, begin in wrong.items():
        yield Case("3.4", f"a preface: {name}", [begin], NO_INVALID_PREFACE, raw=True, reaches="none")
    for name, first in {"PING": ping(), "HEADERS": get(1), "WINDOW_UPDATE": window(0, 1), "PRIORITY": priority(1),
                        "GOAWAY": goodbye(), "an acknowledgement": settings(flags=ACK), "DATA": data(1),
                        "SETTINGS on stream 1": settings(stream=1), "RST_STREAM": reset(1),
                        "CONTINUATION": frame(CONTINUATION, END_HEADERS, 1, BLOCK),
                        "PUSH_PROMISE": frame(PUSH_PROMISE, END_HEADERS, 1, u32(2) + BLOCK)}.items():
        yield Case("3.4", f"{name} as the first frame", [PREFACE, first], NO_INVALID_PREFACE, raw=True, reaches="none")
    for length in (5, FRAME + 2):
        yield Case("3.4", f"SETTINGS of {length} octets as the first frame",
                   [PREFACE, frame(SETTINGS, 0, 0, bytes(length))], any_of(goaway(SIZE), NO_INVALID_PREFACE), raw=True)
    yield Case("3.4", "the preface twice", [*begun, PREFACE], goaway(SIZE), raw=True)
    yield Case("3.4", "preface, SETTINGS and a request at once", [b"".join([*begun, get(1)])], status(stream=1),
               raw=True)
    yield Case("3.4", "a request before our SETTINGS are acknowledged", [*begun, get(1)], status(stream=1), raw=True)
    yield Case("3.4", "SETTINGS with settings as the first frame",
               [PREFACE, settings((2, 0), (4, 70_000), (99, 1)), get(1)], status(stream=1), raw=True)
    yield Case("3.4", "SETTINGS are acknowledged, each", [*begun, settings(), settings((4, 65_536)), get(1)],
               status(stream=1), raw=True, check=acknowledged(3))
    yield Case("3.2", "h2 in TLS, then HTTP/1.1", [b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"], NO_INVALID_PREFACE,
               raw=True, alpn=["h2"], reaches="none")
    yield Case("3.2", "h2 in TLS, then another preface", [wrong["another second half"]], NO_INVALID_PREFACE, raw=True,
               alpn=["h2"])
    yield Case("3.2", "h2 in TLS, then PING", [PREFACE, ping()], NO_INVALID_PREFACE, raw=True, alpn=["h2"])
    yield Case("3.2", "h2 in TLS", [*begun, get(1)], status(stream=1), raw=True, alpn=["h2"])
    yield Case("3.2", "h2 in TLS, by a client that would rather have HTTP/1.1", [*begun, get(1)], status(stream=1),
               raw=True, alpn=["http/1.1", "h2"])
    yield Case("3.3", "http/1.1 in TLS, then the preface", [*begun, get(1)], any_of(CLOSED, goaway(PROTOCOL)), raw=True,
               alpn=["http/1.1"], reaches="none")


def frame_headers():
    for kind in (UNKNOWN, 0x0A, 0x0C, 0x10, 0xFF):
        for where, before, stream in (("the connection", [], 0), ("an idle stream", [], 5), ("an open one", [OPEN], 3),
                                      ("one half-closed", [HALF_CLOSED], 3), ("a closed one", CLOSED_BY_BOTH, 3)):
            if kind in (UNKNOWN, 0xFF) or stream == 0:
                yield Case("4.1", f"a frame of type {kind:#x} on {where}",
                           [*before, frame(kind, 0xFF, stream, b"anything")], IGNORED)
    yield Case("4.1", "a frame of type 0x77 without a payload", [frame(UNKNOWN)], IGNORED)
    yield Case("4.1", "a frame of type 0x77 as large as possible", [frame(UNKNOWN, 0, 3, bytes(FRAME))], IGNORED)
    yield Case("4.1", "a frame of type 0x77 between request and content",
               [post(), frame(UNKNOWN, 0xFF, 3, b"z"), end(3, b"abc")], status(body="abc"))
    for name, steps in {
        "HEADERS": [frame(HEADERS, ALL, RESERVED | 3, BLOCK)],
        "DATA": [post(), frame(DATA, END_STREAM, RESERVED | 3, b"x")],
        "CONTINUATION": [frame(HEADERS, END_STREAM, 3, BLOCK[:9]),
                         frame(CONTINUATION, END_HEADERS, RESERVED | 3, BLOCK[9:])],
        "WINDOW_UPDATE": [post(), window(RESERVED | 3, 1), end(3)], "PRIORITY": [priority(RESERVED | 3), get()],
        "PING": [ping(stream=RESERVED), get()], "SETTINGS": [settings(stream=RESERVED), get()],
        "GOAWAY": [goodbye(stream=RESERVED), get()],
        "an increment": [post(), window(3, RESERVED | 1), end(3)],
    }.items():
        yield Case("4.1", f"the reserved bit of {name}", steps, status())
    for name, steps in {
        "DATA": [post(), data(3, b"x", 0xF6), end(3)], "HEADERS": [frame(HEADERS, 0xD2 | ALL, 3, BLOCK)],
        "PRIORITY": [priority(3, flags=0xFF), get()], "SETTINGS": [settings(flags=0xFE), get()],
        "PING": [ping(flags=0xFE), get()], "GOAWAY": [goodbye(flags=0xFF), get()],
        "WINDOW_UPDATE": [post(), frame(WINDOW_UPDATE, 0xFF, 3, u32(1)), end(3)],
        "CONTINUATION": [frame(HEADERS, END_STREAM, 3), frame(CONTINUATION, 0xFF, 3, BLOCK)],
    }.items():
        yield Case("4.1", f"unused flags of {name}", steps, status())
    yield Case("4.1", "unused flags of RST_STREAM", [OPEN, frame(RST_STREAM, 0xFF, 3, u32(8))], IGNORED)
    yield Case("4.1", "CONTINUATION's bit of END_STREAM is unused", [frame(HEADERS, 0, 3, block(POST)[:20]),
                                                                     frame(CONTINUATION, ALL, 3, block(POST)[20:]),
                                                                     end(3, b"later")], status(body="later"))


def sizes():
    too_large = bytes(FRAME + 1)
    # Of the connection where it could alter the connection's state; else the stream's is enough.
    somewhere = any_of(rst(SIZE), goaway(SIZE))
    for kind, before, stream, expected in (
            (DATA, [OPEN], 3, somewhere), (HEADERS, [], 3, goaway(SIZE)), (PRIORITY, [OPEN], 3, somewhere),
            (RST_STREAM, [OPEN], 3, goaway(SIZE)), (SETTINGS, [], 0, goaway(SIZE)),
            (PUSH_PROMISE, [OPEN], 3, any_of(goaway(SIZE), goaway(PROTOCOL))), (PING, [], 0, goaway(SIZE)),
            (GOAWAY, [], 0, goaway(SIZE)), (WINDOW_UPDATE, [], 0, goaway(SIZE)),
            (WINDOW_UPDATE, [OPEN], 3, goaway(SIZE)),
            (CONTINUATION, [frame(HEADERS, END_STREAM, 3)], 3, goaway(SIZE)), (UNKNOWN, [], 0, goaway(SIZE)),
            (UNKNOWN, [OPEN], 3, somewhere)):
        name = NAMES[kind] if kind < len(NAMES) else f"type {kind:#x}"
        yield Case("4.2", f"{name} of 16,385 octets on stream {stream}", [*before, frame(kind, 0, stream, too_large)],
                   expected, reaches="part")
    for kind, before in ((DATA, [OPEN]), (HEADERS, [])):
        yield Case("4.2", f"{NAMES[kind]} that announces 16,777,215 octets",
                   [*before, frame(kind, END_HEADERS, 3, b"begun", length=(1 << 24) - 1)],
                   somewhere if kind == DATA else goaway(SIZE), reaches="part")
    for length in (0, 1, 7, 9, 16):
        yield Case("6.7", f"PING of {length} octets", [frame(PING, 0, 0, bytes(length))], goaway(SIZE))
    yield Case("6.7", "PING's acknowledgement of 7 octets", [frame(PING, ACK, 0, bytes(7))], goaway(SIZE))
    for length in (0, 3, 5, 8):
        payload = bytes([0, 0, 0, 1, 0, 0, 0, 1][:length])
        yield Case("6.4", f"RST_STREAM of {length} octets", [OPEN, frame(RST_STREAM, 0, 3, payload)], goaway(SIZE))
        yield Case("6.9", f"WINDOW_UPDATE of {length} octets", [frame(WINDOW_UPDATE, 0, 0, payload)], goaway(SIZE))
        yield Case("6.9", f"WINDOW_UPDATE of {length} octets on a stream", [OPEN, frame(WINDOW_UPDATE, 0, 3, payload)],
                   goaway(SIZE))
    for length in (1, 5, 7, 11):
        yield Case("6.5", f"SETTINGS of {length} octets", [frame(SETTINGS, 0, 0, bytes(length))], goaway(SIZE))
    for length in (1, 6):
        yield Case("6.5", f"SETTINGS' acknowledgement of {length} octets", [frame(SETTINGS, ACK, 0, bytes(length))],
                   goaway(SIZE))
    for length in (0, 4, 6, 10):
        wrong = frame(PRIORITY, 0, 3, bytes(length))
        yield Case("6.3", f"PRIORITY of {length} octets on an open stream", [OPEN, wrong], rst(SIZE))
        yield Case("6.3", f"PRIORITY of {length} octets on a half-closed stream", [HALF_CLOSED, wrong], rst(SIZE))
        # A stream that is idle cannot be reset (6.4).
        yield Case("6.3", f"PRIORITY of {length} octets on an idle stream", [wrong], goaway(SIZE))
        yield Case("6.3", f"PRIORITY of {length} octets on a closed stream", [*CLOSED_BY_BOTH, wrong],
                   any_of(rst(SIZE), goaway(SIZE), IGNORED))
    for length in (0, 4, 7):
        yield Case("6.8", f"GOAWAY of {length} octets", [frame(GOAWAY, 0, 0, bytes(length))], goaway(SIZE))
    yield Case("4.2", "HEADERS without its padding's length", [frame(HEADERS, ALL | PADDED, 3)], goaway(SIZE))
    for length in (0, 4):
        yield Case("4.2", f"HEADERS with {length} octets of priority",
                   [frame(HEADERS, ALL | WITH_PRIORITY, 3, bytes(length))], goaway(SIZE))
    yield Case("4.2", "HEADERS with padding and 4 octets of priority",
               [frame(HEADERS, ALL | WITH_PRIORITY | PADDED, 3, bytes(5))], goaway(SIZE))
    yield Case("4.2", "DATA without its padding's length", [OPEN, frame(DATA, PADDED, 3)], somewhere, reaches="part")
    for kind, steps in {
        "DATA": [post(), end(3, b"x" * FRAME)],
        "DATA, with padding": [post(), data(3, bytes([255]) + b"x" * (FRAME - 256) + bytes(255), PADDED | END_STREAM)],
        "HEADERS": [frame(HEADERS, ALL, 3, BLOCK + literal("x", "y" * (FRAME - len(BLOCK) - 6)))],
        "HEADERS and CONTINUATION": [frame(HEADERS, END_STREAM, 3, (BLOCK + literal("x", "y" * 20_000))[:FRAME]),
                                     frame(CONTINUATION, END_HEADERS, 3, (BLOCK + literal("x", "y" * 20_000))[FRAME:])],
        "SETTINGS": [settings(*[(1000 + number, number) for number in range(FRAME // 6)]), get()],
        "GOAWAY": [goodbye(debug=bytes(FRAME - 8)), get()],
    }.items():
        yield Case("4.2", f"{kind}, as large as possible", steps, status())


# ------------------------------------------------------------------------------------------------ 5

def identifiers():
    zero = {"DATA": data(0), "HEADERS": frame(HEADERS, ALL, 0, BLOCK), "PRIORITY": priority(0), "RST_STREAM": reset(0),
            "CONTINUATION": frame(CONTINUATION, END_HEADERS, 0, BLOCK),
            "PUSH_PROMISE": frame(PUSH_PROMISE, END_HEADERS, 0, u32(2) + BLOCK)}
    sections = {"DATA": "6.1", "HEADERS": "6.2", "PRIORITY": "6.3", "RST_STREAM": "6.4", "CONTINUATION": "6.10",
                "PUSH_PROMISE": "6.6"}
    for name, wrong in zero.items():
        yield Case(sections[name], f"{name} on stream 0", [wrong], goaway(PROTOCOL), reaches="none")
    yield Case("6.1", "DATA on stream 0 within a request", [post(), data(0), end(3)], goaway(PROTOCOL), reaches="part")
    for section, name, make in (("6.5", "SETTINGS", settings), ("6.7", "PING", ping), ("6.8", "GOAWAY", goodbye)):
        yield Case(section, f"{name} on an open stream", [OPEN, make(stream=3)], goaway(PROTOCOL))
        yield Case(section, f"{name} on an idle stream", [make(stream=5)], goaway(PROTOCOL))
    yield Case("6.5", "SETTINGS' acknowledgement on a stream", [OPEN, settings(flags=ACK, stream=3)], goaway(PROTOCOL))
    yield Case("6.7", "PING's acknowledgement on a stream", [OPEN, ping(flags=ACK, stream=3)], goaway(PROTOCOL))
    yield Case("5.4.1", "the GOAWAY arrives, with 4 MiB under way behind the error",
               [ping(stream=3) + frame(UNKNOWN, 0, 0, bytes(FRAME)) * 256], goaway(PROTOCOL),
               check=lambda talk: "" if talk.end == "closed" else talk.end)
    for stream in (2, 4, WINDOW_MAX - 1):
        yield Case("5.1.1", f"HEADERS on stream {stream}, which is even", [frame(HEADERS, ALL, stream, BLOCK)],
                   goaway(PROTOCOL), reaches="none")
    yield Case("5.1.1", "stream 3 after stream 5", [get(5), frame(HEADERS, ALL, 3, BLOCK)], goaway(PROTOCOL))
    yield Case("5.1.1", "stream 3 after stream 5 is answered", [get(5), Answered(5), get(3)], goaway(PROTOCOL))
    yield Case("5.1.1", "stream 5 after stream 2^31-1", [get(WINDOW_MAX), Answered(WINDOW_MAX), get(5)],
               goaway(PROTOCOL))
    yield Case("5.1.1", "stream 3 after a malformed stream 5",
               [headers(without(GET, ":path"), stream=5), Reset(5), get(3)], goaway(PROTOCOL), reaches="none")
    yield Case("5.1.1", "DATA on a stream that was passed over", [get(5), data(3)],
               any_of(goaway(CLOSED_CODE), goaway(PROTOCOL), rst(CLOSED_CODE)))
    yield Case("5.1.1", "streams with gaps", [get(3), get(77), get(1999)], status(stream=77))
    yield Case("5.1.1", "stream 2^31-1", [get(WINDOW_MAX)], status(stream=WINDOW_MAX), probe=False)


def states():
    trailers = frame(HEADERS, ALL, 3, literal("x-sum", "1"))
    push = frame(PUSH_PROMISE, END_HEADERS, 3, u32(2) + BLOCK)
    continuation = frame(CONTINUATION, END_HEADERS, 3, BLOCK)
    for stream, which in ((3, "an idle stream"), (2, "an idle stream of the server's"),
                          (1001, "an idle stream far ahead")):
        for name, wrong in {"DATA": data(stream), "DATA with END_STREAM": end(stream), "RST_STREAM": reset(stream),
                            "WINDOW_UPDATE": window(stream, 1), "WINDOW_UPDATE of 0": window(stream, 0),
                            "CONTINUATION": frame(CONTINUATION, END_HEADERS, stream, BLOCK),
                            "PUSH_PROMISE": frame(PUSH_PROMISE, END_HEADERS, stream, u32(4) + BLOCK)}.items():
            yield Case("5.1", f"{name} on {which}", [wrong], goaway(PROTOCOL), reaches="none")
    yield Case("5.1", "PRIORITY on an idle stream, then a request", [priority(3), get()], status())
    yield Case("5.1", "PRIORITY on an idle stream of the server's", [priority(2)], IGNORED)
    yield Case("5.1", "PRIORITY opens nothing: DATA", [priority(3), data(3)], goaway(PROTOCOL))
    yield Case("5.1", "PRIORITY closes no lower ones", [priority(1999), get()], status())

    for name, wrong in {"DATA": data(3), "DATA with END_STREAM": end(3, b"x"), "empty DATA": data(3, b""),
                        "trailers": trailers,
                        "HEADERS": frame(HEADERS, END_HEADERS, 3, BLOCK), "a request again": get(),
                        "a malformed request": frame(HEADERS, ALL, 3, literal("X", "y"))}.items():
        yield Case("5.1", f"{name} on a half-closed stream", [HALF_CLOSED, wrong], rst(CLOSED_CODE))
        whole = [post(path="/wait"), end(3, b"x"), wrong]
        yield Case("5.1", f"{name} on a stream that DATA has half-closed", whole, rst(CLOSED_CODE))
        whole = [post(path="/wait"), trailers, wrong]
        yield Case("5.1", f"{name} on a stream that trailers have half-closed", whole, rst(CLOSED_CODE))
    for name, wrong, code in (("CONTINUATION", continuation, PROTOCOL), ("PUSH_PROMISE", push, PROTOCOL),
                              ("DATA with too much padding", frame(DATA, PADDED, 3, b"\x05x"), PROTOCOL),
                              ("HEADERS that cannot be decoded", frame(HEADERS, ALL, 3, b"\x80"), COMPRESSION)):
        yield Case("5.1", f"{name} on a half-closed stream", [HALF_CLOSED, wrong], goaway(code))
    in_two = [frame(HEADERS, END_STREAM, 3, block(changed(GET, path="/wait"))), frame(CONTINUATION, END_HEADERS, 3)]
    yield Case("5.1", "DATA on a stream that HEADERS in two frames have half-closed", [*in_two, data(3)],
               rst(CLOSED_CODE))
    for name, right in {"WINDOW_UPDATE": window(3, 1), "PRIORITY": priority(3), "RST_STREAM": reset(3)}.items():
        yield Case("5.1", f"{name} on a half-closed stream", [HALF_CLOSED, right], IGNORED)

    closed = any_of(goaway(CLOSED_CODE), rst(CLOSED_CODE))
    reused = any_of(closed, goaway(PROTOCOL))
    for which, before in (("a stream that both have ended", CLOSED_BY_BOTH),
                          ("a stream that the client has reset", CLOSED_BY_CLIENT)):
        for name, wrong, expected in (
                ("DATA", data(3), closed), ("DATA with END_STREAM", end(3), closed), ("trailers", trailers, reused),
                ("a request", get(), reused), ("CONTINUATION", continuation, goaway(PROTOCOL)),
                ("PUSH_PROMISE", push, goaway(PROTOCOL))):
            yield Case("5.1", f"{name} on {which}", [*before, wrong], expected)
        yield Case("5.1", f"PRIORITY on {which}", [*before, priority(3)], IGNORED)
        yield Case("6.9", f"WINDOW_UPDATE on {which}", [*before, window(3, 1)], IGNORED)
    yield Case("5.1", "RST_STREAM on a stream that both have ended", [*CLOSED_BY_BOTH, reset(3)], IGNORED)
    yield Case("5.4.2", "RST_STREAM is not answered with one, even twice", [*CLOSED_BY_CLIENT, reset(3)],
               any_of(IGNORED, goaway(CLOSED_CODE)))
    for name, late in {"DATA": data(3), "DATA with END_STREAM": end(3), "trailers": trailers,
                       "WINDOW_UPDATE": window(3, 1),
                       "WINDOW_UPDATE of 0": window(3, 0), "RST_STREAM": reset(3), "PRIORITY": priority(3),
                       "all that can be": data(3) * 9 + window(3, 9) + priority(3) + trailers + reset(3)}.items():
        yield Case("5.1", f"{name}, on its way to a stream that we have reset", [*CLOSED_BY_SERVER, late],
                   rst(PROTOCOL), reaches="part")
        yield Case("8.1", f"{name}, on its way to a stream that is answered already", [*ANSWERED_EARLY, late], status())
    for name, late, code in (("DATA with too much padding", frame(DATA, PADDED, 3, b"\x05x"), PROTOCOL),
                             ("HEADERS that cannot be decoded", frame(HEADERS, ALL, 3, b"\x80"), COMPRESSION),
                             ("WINDOW_UPDATE of 3 octets", frame(WINDOW_UPDATE, 0, 3, bytes(3)), SIZE)):
        yield Case("5.1", f"{name}, on its way to a stream that we have reset", [*CLOSED_BY_SERVER, late], goaway(code),
                   reaches="part")


def concurrency():
    def others(talk):
        """As many streams as may be open beside stream 1."""
        return range(5, 5 + 2 * (talk.settings[MAX_CONCURRENT_STREAMS] - 1), 2)

    def begin(talk):
        return b"".join(post(stream) for stream in others(talk))

    def finish(talk):
        """All but stream 5."""
        return b"".join(end(stream, b"late") for stream in others(talk)[1:])

    def refuse(request):
        return [begin, Synced(), request, Reset(1001), end(5), finish, Answered(5)]

    refused = any_of(rst(Code.REFUSED_STREAM, 1001), rst(PROTOCOL, 1001))
    yield Case("5.1.2", "one stream more than MAX_CONCURRENT_STREAMS", refuse(get(1001)), refused)
    yield Case("5.1.2", "DATA on its way to a stream that is refused", refuse(post(1001) + end(1001, b"x")), refused)
    kept = refuse(frame(HEADERS, ALL, 1001, BLOCK + literal("x-late", "kept", INDEXING)))
    yield Case("4.3", "the field block of a stream that is refused counts",
               [*kept, frame(HEADERS, ALL, 1003, BLOCK + indexed(62)), Answered(1003)], refused,
               check=lambda talk: "" if talk.fields(1003).get("x-late") == ["kept"] else "not kept")
    for name, leave in {"has ended": [end(5), Answered(5)], "was cancelled": [reset(5), Synced()]}.items():
        yield Case("5.1.2", f"a stream in place of one that {name}",
                   [begin, Synced(), *leave, get(1001), Answered(1001), finish, Answered(7)], status(stream=1001))


# ------------------------------------------------------------------------------------------------ 6

def payloads():
    def padded(length, content, zeros, flags=0):
        return frame(DATA, PADDED | flags, 3, bytes([length]) + content + bytes(zeros))

    for name, wrong in {"as long as the payload": padded(2, b"x", 0), "longer than the payload": padded(200, b"x", 3),
                        "and nothing else": padded(1, b"", 0), "of 255, all missing": padded(255, b"x", 253)}.items():
        yield Case("6.1", f"DATA with padding {name}", [OPEN, wrong], goaway(PROTOCOL), reaches="part")
    for name, right in {"0": padded(0, b"abc", 0, 1), "1": padded(1, b"abc", 1, 1),
                        "255": padded(255, b"abc", 255, 1)}.items():
        yield Case("6.1", f"DATA with {name} octets of padding", [post(), right], status(body="abc"))
    yield Case("6.1", "DATA of padding alone", [post(), padded(9, b"", 9), padded(0, b"", 0), end(3, b"abc")],
               status(body="abc"))
    yield Case("6.1", "DATA with padding that is not zero",
               [post(), frame(DATA, PADDED | END_STREAM, 3, b"\x02abc\x01\xff")],
               any_of(goaway(PROTOCOL), status(body="abc")))
    yield Case("6.1", "empty DATA, then content", [post(), data(3, b"") * 5, end(3, b"abc")], status(body="abc"))
    yield Case("6.1", "empty DATA with END_STREAM", [post(), data(3, b"abc"), end(3)], status(body="abc"))
    yield Case("6.1", "no content but an empty DATA", [post(), end(3)], status(body=""))

    def opened(content, flags=ALL | PADDED):
        return frame(HEADERS, flags, 3, content)

    own = u32(3) + b"\x0f"
    longer = bytes([len(BLOCK) + 1])
    for name, wrong in {"as long as the payload": opened(longer + BLOCK),
                        "longer than the payload": opened(bytes([250]) + BLOCK), "and nothing else": opened(b"\x01"),
                        "longer than what follows the priority": opened(longer + bytes(4) + b"\x0f" + BLOCK,
                                                                        ALL | PADDED | WITH_PRIORITY)}.items():
        yield Case("6.2", f"HEADERS with padding {name}", [wrong], goaway(PROTOCOL), reaches="none")
    yield Case("6.2", "HEADERS with padding", [opened(b"\x09" + BLOCK + bytes(9))], status())
    yield Case("6.2", "HEADERS with padding of 0", [opened(b"\x00" + BLOCK)], status())
    yield Case("6.2", "HEADERS with padding alone, then CONTINUATION",
               [opened(b"\x09" + bytes(9), END_STREAM | PADDED), frame(CONTINUATION, END_HEADERS, 3, BLOCK)], status())
    yield Case("6.2", "HEADERS with priority", [opened(bytes(4) + b"\xff" + BLOCK, ALL | WITH_PRIORITY)], status())
    yield Case("6.2", "HEADERS with padding and an exclusive priority",
               [opened(b"\x02" + u32(RESERVED | 1) + b"\x00" + BLOCK + bytes(2), ALL | PADDED | WITH_PRIORITY)],
               status())
    yield Case("6.2", "HEADERS that depends on a stream far ahead",
               [opened(u32(9999) + b"\x00" + BLOCK, ALL | WITH_PRIORITY)], status())
    # RFC 7540 (5.3.1) has a stream error for it; RFC 9113 has given up what the fields mean.
    yield Case("5.3.2", "HEADERS that depends on itself", [opened(own + BLOCK, ALL | WITH_PRIORITY)],
               any_of(rst(PROTOCOL), status()))
    for name, before in {"an open": [OPEN], "a half-closed": [HALF_CLOSED]}.items():
        yield Case("5.3.2", f"PRIORITY that depends on itself on {name} stream", [*before, priority(3, on=3)],
                   any_of(rst(PROTOCOL), IGNORED))
    yield Case("5.3.2", "PRIORITY that depends on itself on an idle stream", [priority(3, on=3)],
               any_of(goaway(PROTOCOL), IGNORED))
    for name, before in {"an idle": [], "an open": [OPEN], "a half-closed": [HALF_CLOSED],
                         "a closed": CLOSED_BY_BOTH}.items():
        yield Case("6.3", f"PRIORITY on {name} stream", [*before, priority(3, RESERVED | 1, 255) + priority(3, 999, 0)],
                   IGNORED)

    yield Case("6.4", "RST_STREAM with a code that nobody knows", [OPEN, reset(3, 0xDEADBEEF)], IGNORED)
    for name, before in {"an open": [OPEN], "an idle": [], "a half-closed": [HALF_CLOSED], "a closed": CLOSED_BY_BOTH,
                         "a reset": CLOSED_BY_SERVER}.items():
        wrong = frame(PUSH_PROMISE, END_HEADERS, 3, u32(2) + BLOCK)
        yield Case("6.6", f"PUSH_PROMISE on {name} stream", [*before, wrong], goaway(PROTOCOL))
    yield Case("6.6", "PUSH_PROMISE of an odd stream", [OPEN, frame(PUSH_PROMISE, END_HEADERS, 3, u32(5) + BLOCK)],
               goaway(PROTOCOL))
    yield Case("6.6", "PUSH_PROMISE without END_HEADERS", [OPEN, frame(PUSH_PROMISE, 0, 3, u32(2) + BLOCK)],
               goaway(PROTOCOL))
    yield Case("6.6", "PUSH_PROMISE of 3 octets", [OPEN, frame(PUSH_PROMISE, END_HEADERS, 3, bytes(3))],
               any_of(goaway(PROTOCOL), goaway(SIZE)))


def settings_values():
    for name, value in ((ENABLE_PUSH, 2), (ENABLE_PUSH, (1 << 32) - 1), (MAX_FRAME_SIZE, 0),
                        (MAX_FRAME_SIZE, FRAME - 1),
                        (MAX_FRAME_SIZE, 1 << 24), (MAX_FRAME_SIZE, (1 << 32) - 1)):
        what = "ENABLE_PUSH" if name == ENABLE_PUSH else "MAX_FRAME_SIZE"
        yield Case("6.5.2", f"{what} of {value:,}", [settings((name, value))], goaway(PROTOCOL))
    yield Case("6.5.2", "a wrong setting behind good ones", [settings((1, 4096), (4, 9), (77, 7), (ENABLE_PUSH, 2))],
               goaway(PROTOCOL))
    yield Case("6.5.2", "a wrong setting that the next one rights", [settings((ENABLE_PUSH, 2), (ENABLE_PUSH, 0))],
               goaway(PROTOCOL))
    for value in (1 << 31, (1 << 32) - 1):
        yield Case("6.5.2", f"INITIAL_WINDOW_SIZE of {value:,}", [settings((INITIAL_WINDOW_SIZE, value))], goaway(FLOW))
    right = {"HEADER_TABLE_SIZE": (1, (0, 100, 4096, (1 << 32) - 1)), "ENABLE_PUSH": (2, (0, 1)),
             "MAX_CONCURRENT_STREAMS": (3, (0, 1, (1 << 32) - 1)), "INITIAL_WINDOW_SIZE": (4, (1000, WINDOW_MAX)),
             "MAX_FRAME_SIZE": (5, (FRAME, (1 << 24) - 1)), "MAX_HEADER_LIST_SIZE": (6, (0, 100, (1 << 32) - 1)),
             "a setting that nobody knows": (0x7777, (0, (1 << 32) - 1)), "setting 0": (0, (1,)),
             "NO_RFC7540_PRIORITIES": (9, (0, 1))}
    for name, (number, values) in right.items():
        for value in values:
            yield Case("6.5.2", f"{name} of {value:,}", [get()], status(), settings=[(number, value)])
            if number != HEADER_TABLE_SIZE:
                yield Case("6.5.2", f"{name} of {value:,}, later", [get(), settings((number, value)), get(5)],
                           status(stream=5))
    yield Case("6.5.3", "settings are taken in their order", [settings((4, 0), (4, 5), (4, 65_535)), get()], status())
    yield Case("6.5.3", "settings are taken in their order: the last counts",
               [settings((4, 65_535), (4, 7)), get(path="/bytes/20"), Got(3, 7), settings((4, 65_535))], status())
    yield Case("6.5.3", "SETTINGS are acknowledged, each frame", [settings((4, 65_536)) * 5, Synced()], IGNORED,
               check=acknowledged(6))
    yield Case("6.5.3", "an acknowledgement is not acknowledged", [settings(flags=ACK) * 2, Synced()], IGNORED,
               check=acknowledged(1))
    yield Case("HPACK 4.2", "HEADER_TABLE_SIZE of 0: the next block says so", [get(), Answered(3)], status(),
               settings=[(HEADER_TABLE_SIZE, 0)], check=answered_by(0x20))
    yield Case("HPACK 4.2", "HEADER_TABLE_SIZE of 0 and more again: the next block says both",
               [settings((HEADER_TABLE_SIZE, 0)), settings((HEADER_TABLE_SIZE, 4096)), get(), Answered(3)], status(),
               check=answered_by(0x20, 0x3F))


def windows():
    for name, increment in (("0", 0), ("0 with the reserved bit", RESERVED)):
        yield Case("6.9", f"WINDOW_UPDATE of {name}", [window(0, increment)], goaway(PROTOCOL))
        yield Case("6.9", f"WINDOW_UPDATE of {name} on an open stream", [OPEN, window(3, increment)], rst(PROTOCOL),
                   reaches="part")
        yield Case("6.9", f"WINDOW_UPDATE of {name} on a half-closed stream", [HALF_CLOSED, window(3, increment)],
                   rst(PROTOCOL))
    most = WINDOW_MAX - WINDOW
    yield Case("6.9.1", "the connection's window beyond 2^31-1", [window(0, most + 1)], goaway(FLOW))
    yield Case("6.9.1", "the connection's window beyond 2^31-1, at once", [window(0, WINDOW_MAX)], goaway(FLOW))
    yield Case("6.9.1", "the connection's window beyond 2^31-1, in two", [window(0, most), window(0, 1)], goaway(FLOW))
    yield Case("6.9.1", "the connection's window of 2^31-1", [window(0, most), get()], status())
    for which, before in (("an open stream", OPEN), ("a half-closed stream", HALF_CLOSED)):
        yield Case("6.9.1", f"the window of {which} beyond 2^31-1", [before, window(3, most + 1)], rst(FLOW))
        yield Case("6.9.1", f"the window of {which} beyond 2^31-1, at once", [before, window(3, WINDOW_MAX)], rst(FLOW))
        yield Case("6.9.1", f"the window of {which} beyond 2^31-1, in two", [before, window(3, most), window(3, 1)],
                   rst(FLOW))
        yield Case("6.9.1", f"the window of {which} of 2^31-1", [before, window(3, most)], IGNORED)
        yield Case("6.9.2", f"INITIAL_WINDOW_SIZE that lifts {which} beyond 2^31-1",
                   [before, window(3, 1), settings((4, WINDOW_MAX))], goaway(FLOW))
    yield Case("6.9.2", "INITIAL_WINDOW_SIZE that lifts an open stream to 2^31-1",
               [post(), settings((4, WINDOW_MAX)), end(3)], status())
    yield Case("6.9.2", "INITIAL_WINDOW_SIZE after a stream that has gone",
               [*CLOSED_BY_BOTH, settings((4, WINDOW_MAX)), get(5)], status(stream=5))
    # Nobody takes these uploads: their windows stay as they are.
    stuck = post(path="/stuck")
    full = b"".join(data(3, b"x" * count) for count in [FRAME] * 3 + [FRAME - 1])
    yield Case("6.9.1", "all of a stream's window", [stuck, full], IGNORED, reaches="part")
    yield Case("6.9.1", "an octet more than a stream's window", [stuck, full, data(3)], rst(FLOW), reaches="part")
    yield Case("6.9.1", "the end of a stream whose window is used up", [stuck, full, end(3), reset(3)], IGNORED)
    yield Case("6.9.1", "a frame more than a stream's window", [stuck, full, data(3, b"x" * FRAME)], rst(FLOW),
               reaches="part")
    yield Case("6.9.1", "content within a stream's window, padding beyond",
               [stuck, full[: -9 - FRAME + 1], data(3, b"x" * (FRAME - 200)),
                frame(DATA, PADDED, 3, b"\xc8" + bytes(200))],
               rst(FLOW), reaches="part")
    # What comes for nobody counts towards the connection's window, and is given back (6.9, 5.1).
    late = [step for stream in range(3, 83, 2) for step in
            (sized(1, stream) + data(stream, b"ab"), Reset(stream), Upload(stream, 60_000))]
    yield Case("6.9", "2 MiB on their way to streams that we have reset, then an upload of 2 MiB",
               [*late, post(83), Upload(83, 2 << 20), end(83), Answered(83)], status(stream=83, length=2 << 20),
               resets={stream: PROTOCOL for stream in range(3, 83, 2)})


def window_sizes():
    """What the server may send."""
    yield Case("6.9.1", "a response stops at the stream's window",
               [get(path="/bytes/1000"), Got(3, 100), window(3, 1), Got(3, 101),
                settings((4, 65_535))], status(), settings=[(4, 100)])
    yield Case("6.9.1", "a response stops at the connection's window",
               [get(path="/bytes/100000"), Got(3, WINDOW), window(0, 1), Got(3, WINDOW + 1), window(0, 100_000)],
               status(), settings=[(4, WINDOW_MAX)])
    yield Case("6.9.1", "two responses share the connection's window", [get(path="/bytes/40000"), Answered(3),
               get(5, "/bytes/40000"), Got(5, WINDOW - 40_000), window(0, 100_000)], status(stream=5))
    yield Case("6.9.1", "heads and ends need no window", [get(path="/bytes/0"), Answered(3), settings((4, 65_535))],
               status(), settings=[(4, 0)])
    yield Case("6.9.2", "a window of 0: the head comes, the content does not",
               [get(path="/bytes/9"), Got(3, 0), window(3, 4),
                Got(3, 4), window(3, 5), settings((4, 999))], status(), settings=[(4, 0)])
    yield Case("6.9.2", "INITIAL_WINDOW_SIZE widens streams that wait",
               [get(path="/bytes/1000"), Got(3, 10), settings((4, 20)),
                Got(3, 20), settings((4, 99_999))], status(), settings=[(4, 10)])
    yield Case("6.9.2", "a window below 0",
               [get(path="/bytes/1000"), Got(3, 100), settings((4, 10)), window(3, 50), Got(3, 100),
                window(3, 40), Got(3, 100), window(3, 5), Got(3, 105), settings((4, 99_999))], status(),
               settings=[(4, 100)])
    yield Case("6.9.2", "INITIAL_WINDOW_SIZE is not the connection's",
               [settings((4, WINDOW_MAX)), get(path="/bytes/100000"),
                Got(3, WINDOW), settings((4, 0)), settings((4, WINDOW_MAX)), Got(3, WINDOW), window(0, 100_000)],
               status())
    yield Case("5.2", "one stream waits, others do not",
               [get(path="/bytes/50000"), Got(3, 100), get(5, "/bytes/90"), Answered(5),
                settings((4, 65_535))], status(), settings=[(4, 100)])


def continuations():
    begun = frame(HEADERS, END_STREAM, 3, BLOCK[:20])
    rest = frame(CONTINUATION, END_HEADERS, 3, BLOCK[20:])
    for name, between in {"DATA": data(1), "DATA on its stream": data(3), "HEADERS": get(5),
                          "HEADERS on its stream": get(),
                          "PRIORITY": priority(3), "RST_STREAM": reset(1), "RST_STREAM on its stream": reset(3),
                          "SETTINGS": settings(), "SETTINGS' acknowledgement": settings(flags=ACK), "PING": ping(),
                          "GOAWAY": goodbye(), "WINDOW_UPDATE": window(0, 1),
                          "WINDOW_UPDATE on its stream": window(3, 1),
                          "a frame of type 0x77": frame(UNKNOWN, 0, 3, b"x"),
                          "a frame of type 0x77 on stream 0": frame(UNKNOWN),
                          "PUSH_PROMISE": frame(PUSH_PROMISE, END_HEADERS, 3, u32(2)),
                          "CONTINUATION on another stream": frame(CONTINUATION, END_HEADERS, 5, BLOCK[20:]),
                          "CONTINUATION on stream 0": frame(CONTINUATION, END_HEADERS, 0, BLOCK[20:])}.items():
        yield Case("6.10" if "0x77" not in name else "5.5", f"{name} within a field block", [begun, between, rest],
                   goaway(PROTOCOL), reaches="none")
    yield Case("6.10", "PING between two CONTINUATIONs", [begun, frame(CONTINUATION, 0, 3, BLOCK[20:30]), ping(),
               frame(CONTINUATION, END_HEADERS, 3, BLOCK[30:])], goaway(PROTOCOL), reaches="none")
    for name, before in {"HEADERS that end it": [post(path="/wait")], "DATA": [OPEN, data(3)], "nothing": [],
                         "trailers that end it": [post(), frame(HEADERS, ALL, 3, literal("x", "y"))],
                         "CONTINUATION that ends it": [begun, rest], "SETTINGS": [OPEN, settings()]}.items():
        yield Case("6.10", f"CONTINUATION after {name}",
                   [*before, frame(CONTINUATION, END_HEADERS, 3, literal("x", "y"))], goaway(PROTOCOL))
    yield Case("6.10", "DATA within trailers", [post(), frame(HEADERS, END_STREAM, 3, b""), data(3)], goaway(PROTOCOL),
               reaches="part")
    for name, pieces in {"two": [BLOCK[:20], BLOCK[20:]],
                         "seven": [BLOCK[at : at + 8] for at in range(0, len(BLOCK), 8)],
                         "two, the first one empty": [b"", BLOCK], "three, the last two empty": [BLOCK, b"", b""],
                         "two, within a length": [BLOCK[:1], BLOCK[1:]]}.items():
        chain = [frame(CONTINUATION if at else HEADERS,
                       (END_HEADERS if at == len(pieces) - 1 else 0) | (0 if at else END_STREAM),
                       3, piece) for at, piece in enumerate(pieces)]
        yield Case("6.10", f"a field block in {name}", chain, status(target="/"))
    yield Case("6.10", "trailers in two",
               [post(), data(3, b"abc"), frame(HEADERS, END_STREAM, 3, literal("x-sum", "1")[:4]),
                frame(CONTINUATION, END_HEADERS, 3, literal("x-sum", "1")[4:])], status(trailers=[["x-sum", "1"]]))
    yield Case("6.10", "a field block in two, with padding and priority",
               [frame(HEADERS, END_STREAM | PADDED | WITH_PRIORITY, 3, b"\x03" + bytes(5) + BLOCK[:20] + bytes(3)),
                rest], status())


def pings_and_ends():
    yield Case("6.7", "PING is answered with what it says", [ping(b"\x00\xff tide\x80"), Synced()], IGNORED,
               check=pongs_begin(b"\x00\xff tide\x80"))
    yield Case("6.7", "an acknowledgement is not answered", [ping(b"mine not", ACK), ping(b"but this"), Synced()],
               IGNORED, check=pongs_begin(b"but this"))
    ten = [b"number %d" % at for at in range(10)]
    yield Case("6.7", "ten PINGs are answered in order", [b"".join(map(ping, ten)), Synced()], IGNORED,
               check=pongs_begin(*ten))
    yield Case("6.7", "PING between request and content", [post(), ping(), data(3, b"ab"), ping(), end(3, b"c")],
               status(body="abc"))
    yield Case("6.8", "GOAWAY: what is open is finished", [post(), goodbye(), end(3, b"abc")], status(body="abc"),
               probe=False)
    yield Case("6.8", "GOAWAY with a code that nobody knows",
               [post(), goodbye(code=0xDEADBEEF, debug=b"?"), end(3, b"abc")], status(body="abc"), probe=False)
    yield Case("6.8", "GOAWAY twice", [post(), goodbye(WINDOW_MAX), goodbye(0), end(3, b"abc")], status(body="abc"),
               probe=False)


def all_frames():
    for group in (beginnings, frame_headers, sizes, identifiers, states, concurrency, payloads, settings_values,
                  windows,
                  window_sizes, continuations, pings_and_ends):
        yield from group()
