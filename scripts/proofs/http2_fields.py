"""What a client may do wrong with messages (RFC 9113 §8) and with HPACK (RFC 7541), and what is right. As in
http2_cases.py.
"""

from hpack import Encoder

from http2_wire import (ALL, BAD_REQUEST, CLOSED_BY_SERVER, COMPRESSION, CONTINUATION, END_HEADERS, END_STREAM, FRAME,
                        GET, HALF_CLOSED, HEADERS, INDEXING, NEVER, PADDED, POST, PROTOCOL, Answered, Case, Code,
                        Refused, Reset, any_of, block, changed, data, end, frame, get, goaway, headers, indexed,
                        integer, literal, named, post, rst, sized, status, string, table_size, without)

# Of a header section, so that nothing of the request may have been passed on.
HIDDEN = {"reaches": "none"}
FORBIDDEN = ["connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade"]


def malformed(rfc, name, fields, expected=None, **options):
    """A header section that is."""
    return Case(rfc, name, [headers(fields, **options)], expected or rst(PROTOCOL), **HIDDEN)


def messages():
    trailers = [("x-sum", "1")]
    yield Case("8.1", "trailers", [post(), data(3, b"abc"), headers(trailers)],
               status(body="abc", trailers=[["x-sum", "1"]]))
    yield Case("8.1", "trailers without content", [post(), headers(trailers)],
               status(body="", trailers=[["x-sum", "1"]]))
    yield Case("8.1", "trailers of nothing", [post(), data(3, b"abc"), headers([])], status(body="abc", trailers=[]))
    yield Case("8.1", "trailers without END_STREAM", [post(), data(3), headers(trailers, END_HEADERS)], rst(PROTOCOL),
               reaches="part")
    yield Case("8.1", "trailers without END_STREAM, then their end", [post(), headers(trailers, END_HEADERS), end(3)],
               rst(PROTOCOL), reaches="part")
    yield Case("8.1", "a head again, with END_STREAM", [post(), headers(GET)], rst(PROTOCOL), reaches="part")
    yield Case("8.1", "a head again, without END_STREAM", [post(), post()], rst(PROTOCOL), reaches="part")
    yield Case("8.1", "trailers, then DATA", [post(path="/wait"), headers(trailers), data(3)], rst(Code.STREAM_CLOSED))
    for name, value in {":path": "/", ":method": "GET", ":status": "200", ":x": "y"}.items():
        yield Case("8.1", f"trailers with {name}", [post(), data(3), headers([*trailers, (name, value)])],
                   rst(PROTOCOL), reaches="part")
        yield Case("8.1", f"trailers with {name} first", [post(), headers([(name, value), *trailers])], rst(PROTOCOL),
                   reaches="part")
    for name in FORBIDDEN:
        yield Case("8.2.2", f"trailers with {name}", [post(), headers([(name, "x")])], rst(PROTOCOL), reaches="part")
    for name, field in {"a name in upper case": ("X-sum", "1"), "CR LF in a value": ("x", "a\r\nb: c"),
                        "NUL in a value": ("x", "\0"),
                        "a colon in a name": ("x:y", "1"), "a value that begins with a space": ("x", " 1"),
                        "a space in a name": ("x y", "1"), "LF in a name": ("x\ny", "1")}.items():
        yield Case("8.2.1", f"trailers with {name}", [post(), data(3), headers([field])], rst(PROTOCOL), reaches="part")

    three, none = sized(3, path="/wait"), sized(0, path="/wait")
    for name, steps in {
        "more content than it says": [three, data(3, b"abcd")], "more content, at its end": [three, end(3, b"abcd")],
        "less content": [three, end(3, b"ab")], "less content, then an empty end": [three, data(3, b"ab"), end(3)],
        "less content, then trailers": [three, data(3, b"ab"), headers(trailers)], "no content": [three, end(3)],
        "trailers for content": [three, headers(trailers)],
        "padding for the rest": [three, frame(0, END_STREAM | PADDED, 3, b"\x01ab\0")],
    }.items():
        yield Case("8.1.1", f"content-length, and {name}", steps, rst(PROTOCOL), reaches="part")
    # The backend may have as much as was announced before more of it comes.
    for name, steps in {"as much and more": [three, data(3, b"abc"), data(3, b"d")],
                        "as much and more, at its end": [three, data(3, b"abc"), end(3, b"d")]}.items():
        yield Case("8.1.1", f"content-length, and {name}", steps, rst(PROTOCOL))
    yield Case("8.1.1", "content-length of 0, and content", [none, end(3, b"x")], rst(PROTOCOL))
    yield malformed("8.1.1", "content-length of a GET without content", [*GET, ("content-length", "5")])
    for name, steps in {"in one": [sized(3), end(3, b"abc")],
                        "in three": [sized(3), data(3, b"a"), data(3, b"bc"), end(3)],
                        "with padding": [sized(3), frame(0, END_STREAM | PADDED, 3, b"\x04abc" + bytes(4))],
                        "and trailers": [sized(3), data(3, b"abc"), headers(trailers)]}.items():
        yield Case("8.1.1", f"as much content as content-length says, {name}", steps, status(body="abc"))
    yield Case("8.1.1", "content-length of 0", [headers([*GET, ("content-length", "0")])], status(body=""))
    for value in ("", "+3", "-3", "0x3", "3.0", "3a", "3,", "3 3", "99999999999999999999", "18446744073709551619"):
        yield Case("8.1.1", f"a content-length of '{value}'", [sized(value), end(3, b"abc")], BAD_REQUEST, **HIDDEN)
    twice = [*POST, ("content-length", "3")]
    for name, more in {"4, then 3": "4", "another that is not one": "x"}.items():
        yield Case("8.1.1", f"two content-lengths: {name}",
                   [headers([*POST, ("content-length", more), *twice[-1:]], END_HEADERS),
                    end(3, b"abc")], BAD_REQUEST, **HIDDEN)
    # RFC 9110 §8.6 has both for the same number twice.
    yield Case("8.1.1", "the same content-length twice", [headers([*twice, twice[-1]], END_HEADERS), end(3, b"abc")],
               any_of(BAD_REQUEST, status(body="abc")))
    yield Case("8.1.1", "a content-length of '3, 3'",
               [headers([*POST, ("content-length", "3, 3")], END_HEADERS), end(3, b"abc")],
               any_of(BAD_REQUEST, status(body="abc")))


def field_lines():
    for byte in (0x00, 0x01, 0x09, 0x0A, 0x0D, 0x1F, 0x20, 0x3A, 0x41, 0x5A, 0x7F, 0x80, 0xC3, 0xFF):
        for name in (f"x{chr(byte)}y", f"{chr(byte)}x", f"x{chr(byte)}"):
            if name != ":x":
                yield malformed("8.2.1", f"a field name with {byte:#04x}: {name!r}", [*GET, (name, "1")], BAD_REQUEST)
    for name in ("", "x(y", "x\"y", "x/y", "x@y", "x\\y", "x{y}"):
        # Not in the list of what must be refused, but not a token (RFC 9110 §5.1) either.
        yield malformed("8.2.1", f"a field name that is no token: {name!r}", [*GET, (name, "1")], BAD_REQUEST)
    for value in ("\0", "a\0b", "a\0", "\0a", "\r", "a\rb", "\n", "a\nb", "a\r\n", "\r\na", "a\r\nx: y",
                  "a\r\n\r\nGET / HTTP/1.1",
                  " a", "a ", "\ta", "a\t", " ", "\t", "  a  "):
        yield malformed("8.2.1", f"a field value {value!r}", [*GET, ("x-a", value)], BAD_REQUEST)
    for name, fields in {"a name in upper case": [*GET, ("X-A", "1")],
                         "CR LF in a value": [*GET, ("x-a", "a\r\nb: c")]}.items():
        for form, options in {"by Huffman": {"huffman": True}, "never indexed": {"form": NEVER},
                              "indexed": {"form": INDEXING}}.items():
            yield malformed("8.2.1", f"{name}, {form}", fields, BAD_REQUEST, **options)
    yield Case("8.2.1", "CR LF in a value, out of the dynamic table",
               [headers([*GET, ("x-a", "a\r\nb: c")], form=INDEXING), Reset(3),
                frame(HEADERS, ALL, 5, block(GET) + indexed(62))],
               rst(PROTOCOL, 5), resets={3: PROTOCOL}, **HIDDEN)
    for name in ("host", "cookie", "content-type", "content-length", "te"):
        yield malformed("8.2.1", f"CR LF in {name}", [*without(GET, ":authority"), (name, "1\r\nx: y")], BAD_REQUEST)
    for value in ("\x01", "a\x1fb", "\x7f"):
        # RFC 9110 §5.5: invalid, but may be kept.
        yield Case("8.2.1", f"a field value {value!r}", [headers([*GET, ("x-a", value)])],
                   any_of(BAD_REQUEST, status()))
    for value in ("", "a b", "a\tb", "a\xff\x80b", '"quoted, \\"', "x" * 10_000, ":", "a: b"):
        yield Case("8.2.1", f"a field value {value[:12]!r}", [headers([*GET, ("x-a", value)])],
                   status(fields={"x-a": [value]}))
    for name in ("x", "x" * 300, "!#$%&'*+-.^_`|~09az"):
        yield Case("8.2.1", f"a field name {name[:20]!r}", [headers([*GET, (name, "1")])], status(fields={name: ["1"]}))

    for name in FORBIDDEN:
        for value in ("", "close", "chunked", "h2c", "x-a"):
            yield malformed("8.2.2", f"{name}: {value}", [*GET, (name, value)])
    yield Case("8.2.2", "transfer-encoding: chunked, and chunks",
               [headers([*POST, ("transfer-encoding", "chunked")], END_HEADERS),
                end(3, b"0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n")], rst(PROTOCOL), **HIDDEN)
    for value in ("gzip", "trailers, gzip", "gzip, trailers", "trailers;q=0.5", "chunked"):
        yield malformed("8.2.2", f"te: {value}", [*GET, ("te", value)])
    yield malformed("8.2.2", "te twice: trailers and gzip", [*GET, ("te", "trailers"), ("te", "gzip")])
    yield Case("8.2.2", "te: trailers", [headers([*GET, ("te", "trailers")])], status())

    for name, crumbs in {"two": ["a=1", "b=2"], "one": ["a=1; b=2"],
                         "three, the last one of two": ["a=1", "b=2", "c=3; d=4"],
                         "fifty": [f"n{number}={number}" for number in range(50)]}.items():
        yield Case("8.2.3", f"cookies in crumbs: {name}", [headers([*GET, *(("cookie", crumb) for crumb in crumbs)])],
                   status(fields={"cookie": ["; ".join(crumbs)]}))
    yield Case("8.2.3", "crumbs between other fields",
               [headers([*GET, ("cookie", "a=1"), ("x-a", "1"), ("cookie", "b=2")])],
               status(fields={"cookie": ["a=1; b=2"], "x-a": ["1"]}))


def pseudo_fields():
    for name in (":method", ":scheme", ":path"):
        yield malformed("8.3.1", f"no {name}", without(GET, name))
    yield malformed("8.3.1", "no pseudo-header field", [("x-a", "1")])
    yield malformed("8.3.1", "nothing at all", [])
    for name, value in GET:
        yield malformed("8.3", f"{name} twice", [*GET, (name, value)])
        yield malformed("8.3", f"{name} twice, with another value",
                        [*GET, (name, {":path": "/b", ":method": "POST"}.get(name, "b"))])
        yield malformed("8.3", f"{name} behind a regular field", [*without(GET, name), ("x-a", "1"), (name, value)])
        yield malformed("8.3", f"{name} twice, once behind a regular field", [*GET, ("x-a", "1"), (name, value)])
        yield malformed("8.3", f"{name} in upper case", [*without(GET, name), (name.upper(), value)])
    for name in (":status", ":x", ":", "::", ":path:", ":host", ":proto"):
        yield malformed("8.3", f"{name}, which is not defined for requests", [*GET[:1], (name, "200"), *GET[1:]])
        yield malformed("8.3", f"{name} behind a regular field", [*GET, ("x-a", "1"), (name, "200")])
    yield malformed("8.3", ":protocol of a GET", [*GET, (":protocol", "websocket")])

    for value in ("", " ", "GE T", "GET ", " GET", "GET\r\n", "GET / HTTP/1.1\r\nx: y\r\n\r\nGET", "G\0T", "G\nT",
                  "GET\t", "G(T", "G\x80T"):
        yield malformed("8.3.1", f":method {value!r}", changed(GET, method=value), BAD_REQUEST)
    for value in ("", " ", "http ", "ht tp", "http\r\n", "http://", "1http", "ht\0tp",
                  "http://a.test/x HTTP/1.1\r\nx: y"):
        yield malformed("8.3.1", f":scheme {value!r}", changed(GET, scheme=value), BAD_REQUEST)
    for value in ("", "x", "a.test/", " ", "/a b", " /", "/ ", "/a\tb", "/\0", "/\r", "/\n", "/\r\nx: y",
                  "/ HTTP/1.1\r\nx: y",
                  "/ HTTP/1.1\r\n\r\nGET /smuggled", "*", "http://a.test/", "?a=b", "#", "/#a", "/\x7f", "/\x01",
                  "/\x80", "/\xc3\xa9"):
        yield malformed("8.3.1", f":path {value!r}", changed(GET, path=value), BAD_REQUEST)
    for value in (" ", "a b", "a.test ", " a.test", "a.test\r\n", "a.test\r\nx: y", "a\0b", "a\nb", "a.test/x",
                  "a.test?x", "a.test#x",
                  "a.test:80:80", "a.test:x", "u@a.test", "u:p@a.test", "a\tb", "a\\b", "[::1", "a.test]"):
        yield malformed("8.3.1", f":authority {value!r}", changed(GET, authority=value), BAD_REQUEST)
    # Such a URI has no authority (RFC 9110 §4.2.1), and HTTP/1.1 needs a Host.
    for name, fields in {"an empty :authority": changed(GET, authority=""),
                         "neither :authority nor host": without(GET, ":authority"),
                         "an empty :authority and host": [*changed(GET, authority=""), ("host", "")]}.items():
        yield Case("8.3.1", name, [headers(fields)], any_of(BAD_REQUEST, status()))
    # "Not restricted to http and https" (8.3.1): whoever does not speak for it says so.
    for value in ("ftp", "x-any+thing.1"):
        yield Case("8.3.1", f":scheme {value}", [headers(changed(GET, scheme=value))], any_of([Refused(3)], status()))
    yield malformed("8.3.1", "host that differs", [*GET, ("host", "b.test")], BAD_REQUEST)
    yield malformed("8.3.1", "host that differs, indexed", [*GET, ("host", "b.test")], BAD_REQUEST, form=INDEXING)
    yield malformed("8.3.1", "host with another port", [*GET, ("host", "a.test:81")], BAD_REQUEST)
    yield malformed("8.3.1", "host twice, once another", [*GET, ("host", "a.test"), ("host", "b.test")], BAD_REQUEST)
    yield malformed("8.3.1", "two hosts without :authority",
                    [*without(GET, ":authority"), ("host", "a.test"), ("host", "b.test")], BAD_REQUEST)
    for name, fields in {"host that is the same": [*GET, ("host", "a.test")],
                         "host in upper case": [*GET, ("host", "A.TEST")]}.items():
        yield Case("8.3.1", name, [headers(fields)], status(fields={"host": ["a.test"]}))
    # Scheme-based normalization (RFC 3986 §6.2.3) makes them the same.
    yield Case("8.3.1", "host with the scheme's port", [headers([*GET, ("host", "a.test:80")])],
               status(fields={"host": ["a.test"]}))
    yield Case("8.3.1", ":authority with the scheme's port",
               [headers([*changed(GET, authority="a.test:80"), ("host", "a.test")])], status())
    yield Case("8.3.1", "host without :authority", [headers([*without(GET, ":authority"), ("host", "b.test")])],
               status(fields={"host": ["b.test"]}))
    for path in ("/", "/a/b?c=d", "//", "/%20%3F", "/?", "/a;b=c", "/" + "a" * 4000, "/a:b@c!$&'()*+,="):
        yield Case("8.3.1", f":path {path[:20]}", [get(path=path)], status(target=path))
    for method in ("PUT", "DELETE", "PATCH", "PURGE", "M-SEARCH"):
        yield Case("8.3.1", f":method {method}", [headers(changed(GET, method=method))], status(method=method))
    yield Case("8.3.1", "OPTIONS *", [headers(changed(GET, method="OPTIONS", path="*"))],
               status(method="OPTIONS", target="*"))
    yield Case("8.3.1", "OPTIONS /", [headers(changed(GET, method="OPTIONS"))], status(method="OPTIONS", target="/"))
    yield Case("8.3.1", "pseudo-header fields in another order", [headers(GET[::-1])], status())

    connect = [(":method", "CONNECT"), (":authority", "a.test:443")]
    for name, fields in {"with :path": [*connect, (":path", "/")], "with :scheme": [*connect, (":scheme", "http")],
                         "with both": [*connect, *GET[1:2], *GET[3:]], "without :authority": connect[:1],
                         "without :authority, but host": [*connect[:1], ("host", "a.test:443")]}.items():
        yield malformed("8.5", f"CONNECT {name}", fields)
        yield malformed("8.5", f"CONNECT {name}, going on", fields, flags=END_HEADERS)
    for name, value in {"without a port": "a.test", "with a path": "a.test:443/x", "with an empty one": "",
                        "with a space": "a b:1"}.items():
        yield Case("8.5", f"CONNECT to an authority {name}", [headers(changed(connect, authority=value), END_HEADERS)],
                   any_of(BAD_REQUEST, [Refused(3)], rst(Code.HTTP_1_1_REQUIRED), rst(Code.CONNECT_ERROR)), **HIDDEN)
    yield Case("8.5", "CONNECT, which nobody serves here", [headers(connect, END_HEADERS)],
               any_of([Refused(3)], rst(Code.HTTP_1_1_REQUIRED), rst(Code.CONNECT_ERROR)), **HIDDEN)

    wide = [("x-wide", "y" * 4000)] * 12
    pieces = block([*GET, *wide])
    large = [frame(HEADERS, END_STREAM, 3, pieces[:FRAME]), frame(CONTINUATION, 0, 3, pieces[FRAME : 2 * FRAME]),
             frame(CONTINUATION, END_HEADERS, 3, pieces[2 * FRAME :] + literal("x-kept", "1", INDEXING))]
    yield Case("10.5.1", "fields beyond MAX_HEADER_LIST_SIZE", large, any_of(status(431), rst(PROTOCOL)), **HIDDEN)
    yield Case("10.5.1", "fields beyond MAX_HEADER_LIST_SIZE are decoded to their end",
               [*large, frame(HEADERS, ALL, 5, block(GET) + indexed(62))], status(stream=5, fields={"x-kept": ["1"]}))


# ------------------------------------------------------------------------------------------------ RFC 7541

# :method GET, :scheme http, :path /, and :authority by its name's index.
SHORT = b"\x82\x86\x84" + named(1, "a.test")


def undecodable():
    """A block that cannot be decoded ends the connection (RFC 9113 §4.3), wherever it stands."""
    inserted = literal("x-a", "1", INDEXING)
    long = integer(127, 7, 0x80)[:1]
    blocks = [
        ("2.3.3", "index 62 of an empty dynamic table", SHORT + indexed(62)),
        ("2.3.3", "index 63 of a dynamic table of one", SHORT + inserted + indexed(63)),
        ("2.3.3", "an index of 2^20", SHORT + indexed(1 << 20)),
        ("2.3.3", "a name by index 62, not indexed", SHORT + named(62, "x")),
        ("2.3.3", "a name by index 62, indexed", SHORT + named(62, "x", INDEXING)),
        ("2.3.3", "a name by index 62, never indexed", SHORT + named(62, "x", NEVER)),
        ("6.1", "index 0", b"\x80"),
        ("6.1", "index 0 behind a request", SHORT + b"\x80"),
        ("6.1", "index 0 between fields", b"\x82\x80\x86\x84"),
        ("5.1", "an index that ends early", SHORT + b"\xff"),
        ("5.1", "an index that goes on and ends early", SHORT + b"\xff\x80\x80"),
        ("5.1", "an index beyond 2^32", SHORT + long + b"\xff\xff\xff\xff\x7f"),
        ("5.1", "an index beyond 2^64", SHORT + long + b"\xff" * 9 + b"\x7f"),
        ("5.1", "an index that overflows to 2: 2^64 more", SHORT + long + bytes([0x83, *[0xFF] * 8, 0x01])),
        ("5.1", "an index that overflows to 2: 2^32 more", SHORT + long + bytes([0x83, 0xFF, 0xFF, 0xFF, 0x0F])),
        ("5.1", "an index of 1,000 octets", SHORT + long + b"\x80" * 1000 + b"\x00"),
        ("5.1", "a length beyond 2^32", SHORT + b"\x00\x7f" + b"\xff\xff\xff\xff\x7f" + b"x" * 20),
        ("5.1", "a length beyond 2^64", SHORT + b"\x00\x7f" + b"\xff" * 9 + b"\x7f" + b"x" * 20),
        ("5.1", "a length that ends early", SHORT + b"\x00\x7f\x80"),
        ("5.1", "a table size that ends early", b"\x3f\x80"),
        ("5.1", "a table size beyond 2^64", b"\x3f" + b"\xff" * 9 + b"\x7f" + SHORT),
        ("5.2", "a name that is longer than the block", SHORT + b"\x00\x05x"),
        ("5.2", "no name", SHORT + b"\x00"),
        ("5.2", "a name without a value", SHORT + b"\x00\x01x"),
        ("5.2", "a value that is longer than the block", SHORT + b"\x00\x01x\x05y"),
        ("5.2", "an indexed name without a value", SHORT + b"\x01"),
        ("5.2", "an indexed literal without its name", SHORT + b"\x40"),
        ("5.2", "a Huffman string that is longer than the block", SHORT + b"\x00\x01x\x85\xff"),
        ("5.2", "Huffman padding of 8 bits", SHORT + b"\x00\x01x\x86" + bytes(5) + b"\xff"),
        ("5.2", "Huffman padding of 8 bits and nothing else", SHORT + b"\x00\x01x\x81\xff"),
        ("5.2", "Huffman padding of 11 bits", SHORT + b"\x00\x01x\x82\x1f\xff"),
        ("5.2", "Huffman padding of 19 bits", SHORT + b"\x00\x01x\x83\x1f\xff\xff"),
        ("5.2", "Huffman padding of zeros", SHORT + b"\x00\x01x\x81\x18"),
        ("5.2", "Huffman padding of one zero", SHORT + b"\x00\x01x\x81\x1e"),
        ("5.2", "Huffman padding of zeros in a name", SHORT + b"\x00\x81\x18\x01x"),
        ("5.2", "Huffman's EOS", SHORT + b"\x00\x01x\x84\xff\xff\xff\xff"),
        ("5.2", "Huffman's EOS behind a character", SHORT + b"\x00\x01x\x85\x1f\xff\xff\xff\xff"),
        ("5.2", "Huffman's EOS between characters", SHORT + b"\x00\x01x\x85\x1f\xff\xff\xff\xe3"),
        ("5.2", "a Huffman code that ends early", SHORT + b"\x00\x01x\x81\xfe"),
        ("6.3", "a table size of 4,097", table_size(4097) + SHORT),
        ("6.3", "a table size of 2^28 - 1", table_size((1 << 28) - 1) + SHORT),
        ("6.3", "a table size of 0, then of 4,097", table_size(0) + table_size(4097) + SHORT),
        ("4.2", "a table size behind a field", b"\x82" + table_size(0) + SHORT[1:]),
        ("4.2", "a table size at the end", SHORT + table_size(0)),
        ("4.2", "a table size behind a field, as it was", SHORT + table_size(4096)),
    ]
    for section, name, bad in blocks:
        yield Case(f"HPACK {section}", name, [frame(HEADERS, ALL, 3, bad)], goaway(COMPRESSION), reaches="none")
    first = frame(HEADERS, ALL, 3, SHORT + inserted)
    for section, name, bad in [
            ("4.3", "an entry that a table size of 0 has removed", table_size(0) + SHORT + indexed(62)),
            ("4.3", "an entry that a table size of 0 and 4,096 has removed",
             table_size(0) + table_size(4096) + SHORT + indexed(62)),
            ("4.3", "an entry that is too large for a smaller table", table_size(35) + SHORT + indexed(62)),
            ("4.4", "an entry that a larger one has removed", SHORT + literal("x", "y" * 4050, INDEXING) + indexed(63)),
            ("4.4", "an entry that one larger than the table has removed",
             SHORT + literal("x", "y" * 5000, INDEXING) + indexed(62))]:
        yield Case(f"HPACK {section}", name, [first, Answered(3), frame(HEADERS, ALL, 5, bad)], goaway(COMPRESSION))
    bad = b"\x80"
    yield Case("4.3", "trailers that cannot be decoded", [post(), data(3), frame(HEADERS, ALL, 3, bad)],
               goaway(COMPRESSION), reaches="part")
    yield Case("4.3", "a block that cannot be decoded, in CONTINUATION",
               [frame(HEADERS, END_STREAM, 3, SHORT), frame(CONTINUATION, END_HEADERS, 3, bad)], goaway(COMPRESSION),
               reaches="none")
    yield Case("4.3", "a field that ends with HEADERS and goes on nowhere",
               [frame(HEADERS, END_STREAM, 3, SHORT + b"\x00\x05x"), frame(CONTINUATION, END_HEADERS, 3)],
               goaway(COMPRESSION), reaches="none")
    yield Case("4.3", "a malformed request that cannot be decoded, too",
               [frame(HEADERS, ALL, 3, literal("X", "y") + bad)], goaway(COMPRESSION), reaches="none")


def decodable():
    def request(stream, more=b"", begin=SHORT):
        return frame(HEADERS, ALL, stream, begin + more)

    forms = {"plain": {}, "by Huffman": {"huffman": True}, "never indexed": {"form": NEVER},
             "indexed": {"form": INDEXING},
             "indexed, by Huffman": {"form": INDEXING, "huffman": True},
             "never indexed, by Huffman": {"form": NEVER, "huffman": True}}
    every = "".join(map(chr, range(0x21, 0x7F))) + "".join(map(chr, range(0x80, 0x100)))
    for name, options in forms.items():
        yield Case("HPACK 6", f"literals {name}", [headers([*GET, ("x-a", "one two"), ("x-b", "")], **options)],
                   status(target="/", fields={"x-a": ["one two"], "x-b": [""]}))
        yield Case("HPACK 6", f"names by index, {name}", [request(3, named(58, "tide", **options))],
                   status(fields={"user-agent": ["tide"]}))
        yield Case("HPACK 5.2", f"every character, {name}", [request(3, literal("x-a", every, **options))],
                   status(fields={"x-a": [every]}))
    yield Case("HPACK 5.2", "empty strings by Huffman", [request(3, b"\x00" + string(b"x-a") + b"\x80")],
               status(fields={"x-a": [""]}))
    yield Case("HPACK 5.2", "Huffman padding of 7 bits", [request(3, literal("x-a", "0" * 5, huffman=True))],
               status(fields={"x-a": ["00000"]}))
    yield Case("HPACK 5.1", "strings of 126 to 128 octets",
               [request(3, b"".join(literal(f"x-{size}", "y" * size) for size in (126, 127, 128)))],
               status(fields={f"x-{size}": ["y" * size] for size in (126, 127, 128)}))
    # Whether zeros may pad is an implementation's limit (RFC 7541 §5.1).
    yield Case("HPACK 5.1", "a length with more zeros than it needs",
               [request(3, b"\x00\x01x\x7f\x80\x00" + b"y" * 127)],
               any_of(status(fields={"x": ["y" * 127]}), goaway(COMPRESSION)))
    one = literal("x-a", "1", INDEXING)
    yield Case("HPACK 6.1", "out of the dynamic table", [request(3, one), request(5, indexed(62))],
               status(stream=5, fields={"x-a": ["1"]}))
    yield Case("HPACK 6.1", "out of the dynamic table, in the same block", [request(3, one + indexed(62))],
               status(fields={"x-a": ["1", "1"]}))
    yield Case("HPACK 6.2", "a name out of the dynamic table",
               [request(3, one), request(5, named(62, "2") + named(62, "3", INDEXING) + indexed(62))],
               status(stream=5, fields={"x-a": ["2", "3", "3"]}))
    yield Case("HPACK 6.2", "a name out of the entry that goes for it",
               [request(3, one, begin=table_size(40) + SHORT), request(5, named(62, "23456", INDEXING) + indexed(62))],
               status(stream=5, fields={"x-a": ["23456", "23456"]}))
    yield Case("HPACK 2.3.2", "the same entry twice", [request(3, one + one), request(5, indexed(62) + indexed(63))],
               status(stream=5, fields={"x-a": ["1", "1"]}))
    yield Case("HPACK 2.3.2", "the newest entry comes first",
               [request(3, one + literal("x-b", "2", INDEXING)), request(5, indexed(62) + indexed(63))],
               status(stream=5, fields={"x-a": ["1"], "x-b": ["2"]}))
    yield Case("HPACK 6.2.2", "what is not indexed enters no table",
               [request(3, one + literal("x-b", "2") + literal("x-c", "3", NEVER)),
                request(5, indexed(62))], status(stream=5, fields={"x-a": ["1"]}))
    yield Case("HPACK 4.1", "a table that is full to the octet",
               [request(3, one + literal("x-b", "y" * (4096 - 36 - 35), INDEXING)),
                request(5, indexed(63))], status(stream=5, fields={"x-a": ["1"]}))
    yield Case("HPACK 4.1", "a table that is full, and an octet more",
               [request(3, one + literal("x-b", "y" * (4096 - 36 - 34), INDEXING)),
                request(5, indexed(63))], goaway(COMPRESSION))
    yield Case("HPACK 4.4", "an entry larger than the table",
               [request(3, one + literal("x-b", "y" * 5000, INDEXING) + literal("x-c", "3", INDEXING)),
                request(5, indexed(62))], status(stream=5, fields={"x-c": ["3"]}))
    for name, sizes in {"4,096": [4096], "0": [0], "0, then 4,096": [0, 4096], "100": [100]}.items():
        yield Case("HPACK 6.3", f"table sizes at the beginning: {name}",
                   [request(3, begin=b"".join(map(table_size, sizes)) + SHORT)], status())
    yield Case("HPACK 4.2", "three table sizes at the beginning",
               [request(3, begin=table_size(0) + table_size(9) + table_size(99) + SHORT)],
               any_of(status(), goaway(COMPRESSION)))
    yield Case("HPACK 4.3", "an entry that fits the smaller table",
               [request(3, one), request(5, indexed(62), begin=table_size(36) + SHORT)],
               status(stream=5, fields={"x-a": ["1"]}))
    yield Case("HPACK 4.2", "a table size and nothing else", [frame(HEADERS, ALL, 3, table_size(0))], rst(PROTOCOL),
               reaches="none")
    for name, steps, resets in (
            ("a malformed request", [frame(HEADERS, ALL, 3, literal("X", "y") + one), Reset(3)], {3: PROTOCOL}),
            ("trailers", [post(), frame(HEADERS, ALL, 3, one)], {}),
            ("malformed trailers", [post(), frame(HEADERS, ALL, 3, literal(":path", "/") + one), Reset(3)],
             {3: PROTOCOL}),
            ("HEADERS on a half-closed stream", [HALF_CLOSED, frame(HEADERS, ALL, 3, one), Reset(3)],
             {3: Code.STREAM_CLOSED}),
            ("HEADERS on their way to a stream that we have reset", [*CLOSED_BY_SERVER, frame(HEADERS, ALL, 3, one)],
             {3: PROTOCOL}),
            ("CONTINUATION",
             [frame(HEADERS, END_STREAM, 3, SHORT + one[:3]), frame(CONTINUATION, END_HEADERS, 3, one[3:])], {})):
        yield Case("4.3", f"an entry from {name} stays", [*steps, request(5, indexed(62))],
                   status(stream=5, fields={"x-a": ["1"]}), resets=resets)
    encoder = Encoder()
    many = []
    for number in range(30):
        if number in (10, 20):
            encoder.header_table_size = 200 if number == 10 else 4096
        fields = [*GET, ("x-number", f"{number % 7}"), ("x-long", "y" * (number * 9)), ("user-agent", "proof")]
        many += [frame(HEADERS, ALL, 2 * number + 3, encoder.encode(fields, huffman=number % 2 == 0)),
                 Answered(2 * number + 3)]
    yield Case("HPACK 2", "thirty requests by hpack, with a table that shrinks and grows", many,
               status(stream=61, fields={"x-number": ["1"], "x-long": ["y" * 261], "user-agent": ["proof"]}),
               check=lambda talk: next((f"stream {stream}: {talk.fields(stream)}" for stream in range(3, 63, 2)
                                        if talk.fields(stream).get("x-number") != [f"{(stream - 3) // 2 % 7}"]), ""))


def all_fields():
    for group in (messages, field_lines, pseudo_fields, undecodable, decodable):
        yield from group()
