//! Owns the list of every key that a config file may have: its path, type, default and one line of meaning, and
//! of the keys that a later version will take. The reader refuses what is not here, and docs/configuration.md
//! prints it. Does not read values: a key's type here is words for people.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::OnceLock;

/// One table of a config file. `*` in a path stands for a name that the operator chooses.
#[derive(Debug)]
pub struct Section {
    pub path: &'static str,
    /// As written in a file.
    pub header: &'static str,
    pub doc: &'static str,
    pub keys: &'static [Key],
}

#[derive(Debug)]
pub struct Key {
    /// `*`: any name.
    pub name: &'static str,
    pub kind: &'static str,
    /// `required`, `none`, or the value as it would be written.
    pub default: &'static str,
    pub doc: &'static str,
}

/// The section of this path; every path that the reader opens is in the table (a test opens them all).
pub fn section(path: &str) -> Option<&'static Section> {
    index().sections.get(path).copied()
}

/// Whether a section may hold this key, as a value or as a table of its own.
pub fn knows(path: &str, key: &str) -> bool {
    index().children.get(path).is_some_and(|known| known.contains(&key) || known.contains(&"*"))
}

/// The path of the section `key` inside the section `path`. Asked only for sections that are in the table.
pub fn child(path: &str, key: &str) -> &'static str {
    let found = index().nested.get(&(path, key)).copied();
    debug_assert!(found.is_some(), "the schema has no section {path}.{key}");
    found.unwrap_or("")
}

/// All names that a section may hold.
pub fn names(path: &str) -> &'static [&'static str] {
    index().children.get(path).map_or(&[], |names| names.as_slice())
}

/// A section, other than `path`, that has a key of this name.
pub fn elsewhere(path: &str, key: &str) -> Option<&'static Section> {
    SECTIONS.iter().find(|section| section.path != path && section.keys.iter().any(|known| known.name == key))
}

/// What a key that this version does not have yet will do.
pub fn later(path: &str, key: &str) -> Option<&'static str> {
    LATER.iter().find(|(section, name, _)| *section == path && *name == key).map(|&(_, _, what)| what)
}

/// The reference part of docs/configuration.md.
pub fn reference_markdown() -> String {
    let mut out = String::new();
    for section in SECTIONS {
        let title =
            if section.path.is_empty() { section.header.to_owned() } else { format!("`{}`", section.header) };
        let _ = write!(out, "### {title}\n\n{}\n\n", section.doc);
        out.push_str("| key | type | default | meaning |\n|---|---|---|---|\n");
        for key in section.keys {
            let path = full_path(section, key);
            let _ = writeln!(
                out,
                "| `{path}` | {} | {} | {} |",
                key.kind,
                default_markdown(key.default),
                key.doc
            );
        }
        out.push('\n');
    }
    out.push_str("### Not in this version\n\nThese are refused with an error that says so:\n\n");
    for (path, name, what) in LATER {
        let path = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
        let _ = writeln!(out, "- `{path}`: {what}");
    }
    out
}

fn full_path(section: &Section, key: &Key) -> String {
    if section.path.is_empty() { key.name.to_owned() } else { format!("{}.{}", section.path, key.name) }
}

fn default_markdown(default: &str) -> String {
    match default {
        "required" | "none" | "every" => default.to_owned(),
        words if words.contains("of `") => words.to_owned(),
        value => format!("`{value}`"),
    }
}

struct Index {
    /// (section, key) to the section's path.
    nested: HashMap<(&'static str, &'static str), &'static str>,
    sections: HashMap<&'static str, &'static Section>,
    children: HashMap<&'static str, Vec<&'static str>>,
}

fn index() -> &'static Index {
    static INDEX: OnceLock<Index> = OnceLock::new();
    INDEX.get_or_init(|| {
        let mut children: HashMap<&str, Vec<&str>> = HashMap::new();
        let split = |path: &'static str| path.rsplit_once('.').unwrap_or(("", path));
        let nested = SECTIONS.iter().map(|section| (split(section.path), section.path)).collect();
        for section in SECTIONS {
            children.entry(section.path).or_default().extend(section.keys.iter().map(|key| key.name));
            let mut path = section.path;
            while !path.is_empty() {
                let (parent, name) = split(path);
                let siblings = children.entry(parent).or_default();
                if !siblings.contains(&name) {
                    siblings.push(name);
                }
                path = parent;
            }
        }
        Index { nested, sections: SECTIONS.iter().map(|section| (section.path, section)).collect(), children }
    })
}

const fn key(name: &'static str, kind: &'static str, default: &'static str, doc: &'static str) -> Key {
    Key { name, kind, default, doc }
}

/// In the order of the documentation.
pub const SECTIONS: &[Section] = &[
    Section {
        path: "",
        header: "The top of the file",
        doc: "Before the first `[section]`. Both are read at start only.",
        keys: &[
            key(
                "workers",
                "`\"auto\"` or 1 to 1024",
                "\"auto\"",
                "Worker threads; `auto` is one for each core that affinity and the cgroup quota allow.",
            ),
            key(
                "driver",
                "`\"auto\"`, `\"uring\"`, `\"uring-plain\"`, `\"epoll\"`",
                "\"auto\"",
                "How the workers wait for the kernel; `auto` takes the first that works here.",
            ),
        ],
    },
    Section {
        path: "admin",
        header: "[admin]",
        doc: "Metrics, health and the admin API. Read at start only.",
        keys: &[key(
            "address",
            "IP address and port",
            "none",
            "Where the admin API listens. Without it there is none.",
        )],
    },
    Section {
        path: "log",
        header: "[log]",
        doc: "Where logs go.",
        keys: &[key(
            "access",
            "`\"off\"`, `\"stdout\"`, `\"stderr\"` or a path",
            "\"stdout\"",
            "One JSON line for each request. A relative path starts at this file's directory.",
        )],
    },
    Section {
        path: "reload",
        header: "[reload]",
        doc: "SIGHUP and `tidegate reload` always work; this adds to them.",
        keys: &[key("watch", "boolean", "false", "Reload when the file changes.")],
    },
    Section {
        path: "shutdown",
        header: "[shutdown]",
        doc: "What SIGTERM and SIGQUIT do.",
        keys: &[key("deadline", "duration", "\"30s\"", "How long requests under way may take to finish.")],
    },
    Section {
        path: "dns",
        header: "[dns]",
        doc: "Endpoints given by name are resolved with the system's resolver, never on a worker.",
        keys: &[key(
            "refresh",
            "duration, from 1s",
            "\"30s\"",
            "How often the names of endpoints are resolved again.",
        )],
    },
    Section {
        path: "limits",
        header: "[limits]",
        doc: "What a client may send. More is answered 431, 414, 413 or 400.",
        keys: &[
            key("headers", "1 to 1000", "100", "Header fields in a head, and fields in trailers."),
            key("head", "size, 1KiB to 65535", "\"32KiB\"", "Bytes of a whole request or response head."),
            key("uri", "size, up to `limits.head`", "\"8KiB\"", "Bytes of a request target."),
            key("trailers", "size, up to 65535", "\"16KiB\"", "Bytes of the trailers after a chunked body."),
            key("chunk_extensions", "size, up to 1MiB", "\"4KiB\"", "Bytes of chunk extensions in one body."),
            key(
                "body",
                "size or `\"off\"`",
                "\"10MiB\"",
                "Bytes of a request body; of each message, if it is a gRPC call. A route may set its own `body_limit`.",
            ),
            key(
                "response_message",
                "size or `\"off\"`",
                "\"off\"",
                "Bytes of each message that an endpoint sends in a gRPC call. A route may set its own `response_message_limit`.",
            ),
            key(
                "connections",
                "1 to 1000000",
                "65536",
                "Client connections of one worker; more are closed at once and counted.",
            ),
            key(
                "http2_streams",
                "1 to 1000",
                "128",
                "Requests that one HTTP/2 connection may have open at once; more are refused (REFUSED_STREAM).",
            ),
            key(
                "buffers",
                "size, from 1MiB",
                "\"256MiB\"",
                "Bytes of buffers in use by one worker: 16KiB or 64KiB for each head, and for each body that waits for its receiver. From half of it on bodies move in small pieces; at it, new requests are answered 503.",
            ),
            key(
                "flows",
                "1 to 1000000",
                "16384",
                "Flows of one UDP listener on one worker that has no `flows_max`. Each takes a file descriptor and a local port.",
            ),
        ],
    },
    Section {
        path: "timeouts",
        header: "[timeouts]",
        doc: "The first seven are about clients; the others are what services start from.",
        keys: &[
            key("header", "duration", "\"10s\"", "From the first byte of a request head to its end."),
            key("body", "duration", "\"30s\"", "Longest silence while a request body arrives."),
            key("idle", "duration", "\"75s\"", "Longest wait for the next request on a kept connection."),
            key(
                "write",
                "duration",
                "\"30s\"",
                "Longest time a client may read nothing while a response waits for it.",
            ),
            key(
                "connection_age",
                "duration or `\"off\"`",
                "\"off\"",
                "Longest life of a client's HTTP connection: then HTTP/2 gets GOAWAY and HTTP/1 `connection: close` with its next answer. What is under way is finished.",
            ),
            key("tunnel", "duration", "\"1h\"", "Longest silence on a WebSocket, other upgrade or CONNECT."),
            key(
                "tunnel_age",
                "duration or `\"off\"`",
                "\"off\"",
                "Longest life of one. A WebSocket that we end for this, for its silence or for a drain gets a Close frame (1001) on both sides.",
            ),
            key(
                "tcp",
                "duration",
                "\"10m\"",
                "Longest silence on a connection to a TCP listener, both directions together.",
            ),
            key("udp", "duration", "\"60s\"", "The same on a flow of a UDP listener."),
            key("connect", "duration", "\"5s\"", "Connecting to an endpoint."),
            key("first_byte", "duration", "\"60s\"", "From the request sent to the response's head."),
            key(
                "upstream_idle",
                "duration",
                "\"60s\"",
                "Longest silence while a response arrives, or while an endpoint takes no request body.",
            ),
            key("request", "duration or `\"off\"`", "\"off\"", "The whole request, retries included."),
        ],
    },
    Section {
        path: "pool",
        header: "[pool]",
        doc: "Connections to endpoints that are kept for the next request, by each worker.",
        keys: &[
            key("idle", "0 to 1000000", "1000", "Idle connections in all."),
            key(
                "idle_per_endpoint",
                "0 to 1000000",
                "100",
                "Idle connections to one endpoint; a burst may leave more of them for a second.",
            ),
            key("idle_timeout", "duration", "\"90s\"", "How long one is kept."),
        ],
    },
    Section {
        path: "splice",
        header: "[splice]",
        doc: "Large bodies, and large chunks, go from socket to socket through pipes of 1 MiB, never through user space.",
        keys: &[
            key(
                "from",
                "size or `\"off\"`",
                "\"32KiB\"",
                "Bytes of a body, or of a chunk, still to come from which they are spliced.",
            ),
            key(
                "pipes",
                "0 to 65536",
                "64",
                "Pipes of the whole process, each in use only while bytes are in it; when all are, bodies are copied.",
            ),
        ],
    },
    Section {
        path: "forward",
        header: "[forward]",
        doc: "What endpoints are told about clients.",
        keys: &[
            key(
                "trusted",
                "list of IP networks",
                "[]",
                "Peers whose `x-forwarded-*` and `x-request-id` are kept; those of others are replaced.",
            ),
            key("forwarded", "boolean", "false", "Also send `forwarded` (RFC 7239)."),
        ],
    },
    Section {
        path: "listen.*",
        header: "[listen.NAME]",
        doc: "An address that clients connect to. At least one.",
        keys: &[
            key("address", "IP address and port", "required", "`\"0.0.0.0:8080\"`, `\"[::]:8080\"`."),
            key(
                "protocol",
                "`\"http\"`, `\"https\"`, `\"tcp\"`, `\"tls-passthrough\"`, `\"udp\"`",
                "\"http\"",
                "What clients speak there. `https` needs `tls`. `tcp` passes the bytes on as they are, `udp` the datagrams; `tls-passthrough` passes TLS on, undecrypted, by the server name that it begins with.",
            ),
            key(
                "to",
                "service",
                "none",
                "Where what comes to a TCP or UDP listener goes: required there. For TLS passthrough, where those go for whom `sni` has nothing; without it they are refused. HTTP requests go where `[[route]]` says.",
            ),
            key(
                "idle_timeout",
                "duration",
                "that of `timeouts.tcp` or `timeouts.udp`",
                "Longest silence on a connection to a TCP listener or on a flow of a UDP listener, both directions together.",
            ),
            key(
                "http2",
                "boolean",
                "true",
                "Clients of an HTTP listener may speak HTTP/2: through TLS by ALPN, else by prior knowledge, on the same port as HTTP/1.1.",
            ),
            key(
                "responses",
                "1 to 1000",
                "none",
                "For a UDP listener: answers to each datagram of a client. A flow that has had them all is over (DNS: 1); without this, flows end by silence only.",
            ),
            key(
                "flows_max",
                "1 to 1000000",
                "that of `limits.flows`",
                "For a UDP listener: its flows open at once on one worker. More are refused and counted; none is ended for them.",
            ),
        ],
    },
    Section {
        path: "listen.*.proxy_protocol",
        header: "listen.NAME.proxy_protocol = { ... }",
        doc: "Connections from load balancers that speak the PROXY protocol, version 1 or 2.",
        keys: &[key(
            "trusted",
            "list of IP networks",
            "required",
            "Peers whose connections begin with a PROXY header, within `timeouts.header`: what it says is the client's address from then on. Connections of others are served without; a header there is not read as one.",
        )],
    },
    Section {
        path: "listen.*.tls",
        header: "listen.NAME.tls = { ... }",
        doc: "TLS 1.2 and 1.3 towards clients, for `protocol = \"https\"`. A reload reads the files again; while one of them is wrong, the old certificates stay.",
        keys: &[
            key(
                "certificate",
                "path",
                "required",
                "PEM: the server's certificate, then those that lead to its root. Whom nothing in `certificates` is meant for gets this one.",
            ),
            key(
                "key",
                "path",
                "required",
                "PEM: its private key (RSA, ECDSA or Ed25519; PKCS#8, PKCS#1 or SEC1).",
            ),
            key("ocsp", "path", "none", "DER: an OCSP response that is stapled to the certificate."),
            key("min_version", "`\"1.2\"`, `\"1.3\"`", "\"1.2\"", "The oldest version that is spoken."),
            key(
                "client_roots",
                "path",
                "none",
                "PEM: the certificates of those who sign the clients'. Without it, clients are not asked for one.",
            ),
            key(
                "client_certificates",
                "`\"required\"`, `\"optional\"`",
                "\"required\"",
                "With `client_roots`: whether a client without a certificate is let in. One that is not trusted never is.",
            ),
        ],
    },
    Section {
        path: "listen.*.tls.certificates",
        header: "listen.NAME.tls.certificates = [{ ... }, ...]",
        doc: "More certificates, each for the DNS names in it (`*.example.com` is for all names one below `example.com`). The client's server name (SNI) decides.",
        keys: &[
            key("certificate", "path", "required", "As above."),
            key("key", "path", "required", "As above."),
            key("ocsp", "path", "none", "As above."),
        ],
    },
    Section {
        path: "listen.*.sni",
        header: "listen.NAME.sni = { \"models.example.com\" = \"SERVICE\", \"*.example.com\" = \"SERVICE\" }",
        doc: "For `protocol = \"tls-passthrough\"`: services by the server name in the client's first message. An exact name wins, then the longest `*.` one, which is for all names below it.",
        keys: &[key("*", "service", "none", "Where connections for this name go.")],
    },
    Section {
        path: "service.*",
        header: "[service.NAME]",
        doc: "Endpoints that can do the same work.",
        keys: &[
            key(
                "endpoints",
                "list of `\"host:port\"` or `{ address, weight }`",
                "required",
                "Where the service runs. A DNS name stands for all its addresses.",
            ),
            key(
                "balance",
                "`\"round-robin\"`, `\"least-request\"`, `\"random\"`, `\"hash\"`",
                "\"round-robin\"",
                "How an endpoint is picked. All of them respect weights.",
            ),
            key(
                "hash_by",
                "`\"header:NAME\"`, `\"cookie:NAME\"`, `\"client\"`, `\"path\"`, `\"query:NAME\"`",
                "\"client\"",
                "What `balance = \"hash\"` hashes: equal values go to the same endpoint, unless it is overloaded.",
            ),
            key(
                "protocol",
                "`\"http1\"`, `\"h2\"`, `\"auto\"`",
                "\"http1\"",
                "What HTTP is spoken as. `h2`: HTTP/2, with prior knowledge where there is no `tls`; gRPC needs it. `auto`: HTTP/2 with endpoints that agree on it in TLS, HTTP/1.1 with others. Over HTTP/2 the requests of all clients share connections, new ones are made when their streams run out.",
            ),
            key(
                "proxy_protocol",
                "`\"v1\"`, `\"v2\"`",
                "none",
                "Connections to endpoints begin with a PROXY header that names the client. For HTTP each then serves the requests of one client connection, is not kept in the pool, and ends with it.",
            ),
        ],
    },
    Section {
        path: "service.*.endpoints",
        header: "service.NAME.endpoints = [{ ... }]",
        doc: "An endpoint that needs more than its address.",
        keys: &[
            key("address", "`\"host:port\"`", "required", "An IP address or a DNS name, with the port."),
            key("weight", "0 to 1000", "1", "Its share compared with the others; 0 takes no requests."),
        ],
    },
    Section {
        path: "service.*.tls",
        header: "service.NAME.tls = { ... }",
        doc: "TLS 1.2 and 1.3 towards the endpoints; `{}` is enough where the machine trusts them. `timeouts.connect` bounds connecting and the handshake. A reload reads the files again.",
        keys: &[
            key(
                "roots",
                "path",
                "those that the machine trusts",
                "PEM: the certificates of those who sign the endpoints', or an endpoint's own.",
            ),
            key(
                "server_name",
                "DNS name or IP address",
                "the endpoint's host",
                "What the endpoints are asked for (SNI), and their certificates have to be for.",
            ),
            key(
                "verify",
                "`true`, `false`",
                "true",
                "`false` believes whoever answers: against listeners, not against impostors.",
            ),
            key(
                "certificate",
                "path",
                "none",
                "PEM: our own certificate, for endpoints that ask for one; needs `key`.",
            ),
            key("key", "path", "none", "PEM: its private key."),
            key("min_version", "`\"1.2\"`, `\"1.3\"`", "\"1.2\"", "The oldest version that is spoken."),
        ],
    },
    Section {
        path: "service.*.timeouts",
        header: "[service.NAME.timeouts]",
        doc: "Instead of those in `[timeouts]`.",
        keys: &[
            key("connect", "duration", "that of `timeouts.connect`", "Connecting to an endpoint."),
            key(
                "first_byte",
                "duration",
                "that of `timeouts.first_byte`",
                "From the request sent to the response's head.",
            ),
            key(
                "idle",
                "duration",
                "that of `timeouts.upstream_idle`",
                "Longest silence while a response arrives, or while an endpoint takes no request body.",
            ),
            key(
                "request",
                "duration or `\"off\"`",
                "that of `timeouts.request`",
                "The whole request, retries included.",
            ),
        ],
    },
    Section {
        path: "service.*.retry",
        header: "[service.NAME.retry]",
        doc: "Only before a byte of the response was sent, and only what is safe to repeat: requests that no endpoint has seen, and idempotent methods. A `first_byte` timeout is followed by another endpoint, never by the same.",
        keys: &[
            key("attempts", "1 to 10", "3", "Tries in all; 1 never retries."),
            key("on_status", "list of 400 to 599", "[]", "Statuses that count as a failed try."),
            key(
                "on_unavailable",
                "boolean",
                "true",
                "A gRPC call that is answered with UNAVAILABLE and nothing else goes to another endpoint, if all of its request is still at hand.",
            ),
            key(
                "budget_percent",
                "0 to 100",
                "20",
                "Share of the service's requests under way that may be retries; what no endpoint has seen is not counted.",
            ),
            key("budget_min", "0 to 1000", "3", "Retries under way that are always allowed."),
        ],
    },
    Section {
        path: "route",
        header: "[[route]]",
        doc: "The first route that matches takes the request, in the order of the file. It has `to`, `redirect` or `respond`.",
        keys: &[
            key("name", "text", "made of what it matches", "For logs, metrics and `tidegate explain`."),
            key("to", "service, or template", "none", "`\"models\"`, `\"models-{header:x-model-version}\"`."),
            key(
                "otherwise",
                "service",
                "none",
                "Where requests go if the template names no service. Without it they are answered 404.",
            ),
            key(
                "timeout",
                "duration or `\"off\"`",
                "that of the service",
                "The whole request, retries included.",
            ),
            key(
                "first_byte_timeout",
                "duration",
                "that of the service",
                "From the request sent to the response's head: longer for models that think before they speak.",
            ),
            key(
                "idle_timeout",
                "duration",
                "that of the service",
                "Longest silence of the response, of an event stream for example, or of an endpoint that takes no request body.",
            ),
            key("body_limit", "size or `\"off\"`", "that of `limits.body`", "Bytes of a request body."),
            key(
                "response_message_limit",
                "size or `\"off\"`",
                "that of `limits.response_message`",
                "Bytes of a message in the answer to a gRPC call.",
            ),
        ],
    },
    Section {
        path: "route.cors",
        header: "route.cors = { ... }",
        doc: "What pages of other origins may ask. Preflights for the route's methods are answered by the gateway; an endpoint's own `access-control-*` fields are replaced.",
        keys: &[
            key(
                "origins",
                "list of origins",
                "required",
                "`\"https://app.example.com\"`; `\"https://*.example.com\"` is any name below it; `\"*\"` is any page.",
            ),
            key(
                "headers",
                "header name or list",
                "[]",
                "Request headers that a script may set; without any, all that it asks for.",
            ),
            key(
                "expose",
                "header name or list",
                "[]",
                "Response headers that a script may read, besides `grpc-status`, `grpc-message` and `x-request-id`.",
            ),
            key("credentials", "boolean", "false", "With the cookies of whoever looks at the page."),
            key("max_age", "duration", "\"10m\"", "For how long a browser need not ask again."),
        ],
    },
    Section {
        path: "route.match",
        header: "route.match = { ... }",
        doc: "All that is given must hold; without any, every request matches. A list holds if one of its items does.",
        keys: &[
            key(
                "host",
                "host or list",
                "every",
                "`\"api.example.com\"`; `\"*.example.com\"` is any name below it.",
            ),
            key(
                "path",
                "path or list",
                "every",
                "`\"/x\"` exactly; `\"/x/**\"` that and all below; `\"/a/{name}/b\"`, `\"/a/*/b\"` any one segment; `\"~^/v[0-9]+/\"` a regex.",
            ),
            key("method", "method or list", "every", "`\"GET\"`, `[\"POST\", \"PUT\"]`."),
            key("listener", "listener's name or list", "every", "`NAME` of `[listen.NAME]`."),
        ],
    },
    Section {
        path: "route.match.header",
        header: "route.match.header = { NAME = ... }",
        doc: "By header name, in any case.",
        keys: &[key(
            "*",
            "text or boolean",
            "none",
            "`\"v2\"` exactly; `\"v2*\"` a prefix; `\"~^v[23]$\"` a regex; `true` there is one; `false` there is none.",
        )],
    },
    Section {
        path: "route.match.query",
        header: "route.match.query = { NAME = ... }",
        doc: "By query parameter, its name as written.",
        keys: &[key("*", "text or boolean", "none", "As for a header.")],
    },
    Section {
        path: "route.redirect",
        header: "route.redirect = { ... }",
        doc: "Answers with another place to go.",
        keys: &[
            key("to", "template", "required", "A URL or a path: `\"https://{host}{path}\"`."),
            key("status", "301, 302, 303, 307 or 308", "307", "Which redirect."),
        ],
    },
    Section {
        path: "route.respond",
        header: "route.respond = { ... }",
        doc: "Answers by itself.",
        keys: &[
            key("status", "200 to 599", "200", "The status."),
            key("body", "text, up to 64KiB", "\"\"", "The body."),
            key("content_type", "media type", "\"text/plain; charset=utf-8\"", "What the body is."),
        ],
    },
    Section {
        path: "route.rewrite",
        header: "route.rewrite = { ... }",
        doc: "Changes the path that the endpoint sees; the query stays. One of `path`, `strip_prefix`, or `regex` with `replacement`.",
        keys: &[
            key("path", "template", "none", "The whole new path."),
            key("strip_prefix", "path", "none", "Removed from the front; `/` if nothing remains."),
            key("regex", "regex", "none", "The part of the path to replace."),
            key(
                "replacement",
                "text",
                "none",
                "What to put there; `$1` and `${name}` are the regex's groups.",
            ),
        ],
    },
    Section {
        path: "route.request_headers",
        header: "route.request_headers = { ... }",
        doc: "Edits of the request before it is sent on: first `remove`, then `set`, then `add`.",
        keys: &[key("remove", "header name or list", "[]", "Removes all fields of the name.")],
    },
    Section {
        path: "route.request_headers.set",
        header: "route.request_headers.set = { NAME = ... }",
        doc: "Replaces all fields of the name.",
        keys: &[key("*", "template", "none", "The value.")],
    },
    Section {
        path: "route.request_headers.add",
        header: "route.request_headers.add = { NAME = ... }",
        doc: "Adds a field after those that are there.",
        keys: &[key("*", "template or list", "none", "The value.")],
    },
    Section {
        path: "route.response_headers",
        header: "route.response_headers = { ... }",
        doc: "The same for the response.",
        keys: &[key("remove", "header name or list", "[]", "Removes all fields of the name.")],
    },
    Section {
        path: "route.response_headers.set",
        header: "route.response_headers.set = { NAME = ... }",
        doc: "Replaces all fields of the name.",
        keys: &[key("*", "template", "none", "The value.")],
    },
    Section {
        path: "route.response_headers.add",
        header: "route.response_headers.add = { NAME = ... }",
        doc: "Adds a field after those that are there.",
        keys: &[key("*", "template or list", "none", "The value.")],
    },
];

/// (section, key, what it will do). Refused rather than unknown, so that nobody hunts for a typing mistake.
pub const LATER: &[(&str, &str, &str)] = &[
    ("", "auth", "identity by JWT, API key or client certificate"),
    ("", "limit", "rate limits"),
    ("", "video", "camera and video sources"),
    ("", "model", "conversion of inputs for models"),
    ("", "trace", "trace export by OTLP"),
    ("", "redis", "limits shared between machines"),
    ("service.*", "health", "active health checks"),
    ("service.*", "outlier", "ejection of failing endpoints"),
    ("service.*", "breaker", "circuit breaking"),
    ("service.*", "concurrency", "concurrency limits and the wait queue"),
    ("service.*", "queue", "concurrency limits and the wait queue"),
    ("service.*", "slow_start", "slow start of new endpoints"),
    ("service.*.endpoints", "priority", "zones and priorities"),
    ("service.*.endpoints", "zone", "zones and priorities"),
    ("route", "auth", "identity by JWT, API key or client certificate"),
    ("route", "limits", "rate limits"),
    ("route", "canary", "canary releases"),
    ("route", "shadow", "mirrored traffic"),
    ("route", "convert", "conversion of inputs for models"),
    ("route.match", "claim", "routing by verified JWT claims"),
    ("route.match", "content_type", "routing by content type"),
    ("route.match", "body", "routing by a field of a JSON body"),
    ("route.match", "model", "routing by the model named in a JSON body"),
];
