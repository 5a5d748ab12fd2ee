//! Owns the list of every key that a config file may have: its path, type, default and one line of meaning, and of the keys that
//! a later version will take. The reader refuses what is not here. A key's type here is words for people.

use super::{Section, key};

mod route;
mod service;
mod tls;

/// In the order of the documentation.
pub fn sections() -> impl Iterator<Item = &'static Section> {
    [TOP, service::SECTIONS, route::SECTIONS].into_iter().flatten()
}

const TOP: &[Section] = &[
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
        doc: "Metrics, health and the admin API. Read at start only, but for `tls`.",
        keys: &[
            key(
                "address",
                "IP address and port",
                "none",
                "Where the admin API listens. Without it there is none.",
            ),
            key(
                "token_file",
                "path",
                "none",
                "Who has the token in it, as `authorization: Bearer TOKEN`, may ask everything, and nobody else more than `/healthz` and `/readyz`. Needed where `address` is no loopback address, or `client_roots` of `tls` instead.",
            ),
            key("token_env", "text", "none", "The environment variable that has the token."),
            key("metrics_public", "boolean", "false", "`/metrics` needs no token and no certificate."),
        ],
    },
    Section {
        path: "admin.tls",
        header: "admin.tls = { ... }",
        doc: "TLS for the admin API, as `listen.NAME.tls`; a reload reads the files again. Whether it is there, and has `client_roots`, stays as it is until a restart.",
        keys: tls::ADMIN_KEYS,
    },
    Section {
        path: "admin.tls.certificates",
        header: "admin.tls.certificates = [{ ... }, ...]",
        doc: "As `listen.NAME.tls.certificates`.",
        keys: tls::CERTIFICATES_KEYS,
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
                "Peers whose `x-forwarded-*` and `x-request-id` are kept; those of others are replaced. The client is then the last address in `x-forwarded-for` that is not one of these: for limits by `client`, `{client.ip}`, hashes and the log.",
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
        path: "listen.*.per_address",
        header: "listen.NAME.per_address = { ... }",
        doc: "What one address may have; connections beyond it are reset before they cost anything. Of IPv6 a network of 64 bits is one. Behind `proxy_protocol` it is the address that the header names. Not for UDP. See [limits](limits.md#connections).",
        keys: &[
            key("connections", "1 to 1000000", "none", "At once."),
            key("rate", "1 to 1000000, or text", "none", "New ones: `10` a second, `\"100/m\"`."),
            key("burst", "1 to 1000000000", "that of `rate`", "How many at once after a silence."),
        ],
    },
    Section {
        path: "listen.*.tls",
        header: "listen.NAME.tls = { ... }",
        doc: "TLS 1.2 and 1.3 towards clients, for `protocol = \"https\"`. A reload reads the files again; while one of them is wrong, the old certificates stay.",
        keys: tls::LISTENER_KEYS,
    },
    Section {
        path: "listen.*.tls.certificates",
        header: "listen.NAME.tls.certificates = [{ ... }, ...]",
        doc: "More certificates, each for the DNS names in it (`*.example.com` is for all names one below `example.com`). The client's server name (SNI) decides.",
        keys: tls::CERTIFICATES_KEYS,
    },
    Section {
        path: "listen.*.sni",
        header: "listen.NAME.sni = { \"models.example.com\" = \"SERVICE\", \"*.example.com\" = \"SERVICE\" }",
        doc: "For `protocol = \"tls-passthrough\"`: services by the server name in the client's first message. An exact name wins, then the longest `*.` one, which is for all names below it.",
        keys: &[key("*", "service", "none", "Where connections for this name go.")],
    },
    Section {
        path: "auth.*",
        header: "[auth.NAME]",
        doc: "Who asks: a way to verify it, for routes to name. See [identity](identity.md).",
        keys: &[
            key("realm", "text", "none", "What `www-authenticate` says it is; without it, `NAME`."),
            key(
                "certificate",
                "boolean",
                "false",
                "Who presents no token and no key is who the certificate of its connection is for, where a listener asks for one (`client_roots`).",
            ),
        ],
    },
    Section {
        path: "auth.*.jwt",
        header: "auth.NAME.jwt = { ... }",
        doc: "JSON Web Tokens, as `authorization: Bearer TOKEN`. Its keys come from one of `secret_file`, `secret_env`, `secret`, `public_key` and `jwks`.",
        keys: &[
            key("secret_file", "path", "none", "A secret for HMAC, without its last line break."),
            key("secret_env", "text", "none", "The environment variable that has the secret."),
            key("secret", "text", "none", "The secret itself."),
            key(
                "public_key",
                "path",
                "none",
                "A public key or certificate in PEM: RSA from 2048 bits, P-256, P-384, P-521 or Ed25519.",
            ),
            key(
                "jwks",
                "path or URL",
                "none",
                "A JSON Web Key Set; tokens name its keys by `kid`. From a URL it is fetched at the start, every `refresh`, and when a token names a key that is not known.",
            ),
            key("refresh", "1s to 24h", "\"5m\"", "How often keys from a URL are fetched."),
            key(
                "algorithm",
                "`\"HS256\"` to `\"HS512\"`, `\"RS256\"`, `\"PS256\"`, `\"ES256\"`, ..., `\"EdDSA\"`",
                "none",
                "Of keys that do not say it themselves; without it HS256, RS256, EdDSA, or that of the curve. No key is ever used with another one.",
            ),
            key(
                "issuer",
                "text or list",
                "[]",
                "`iss` must be one of these; without any, it is not looked at.",
            ),
            key(
                "audience",
                "text or list",
                "[]",
                "`aud` must hold one of these; without any, it is not looked at.",
            ),
            key(
                "leeway",
                "duration",
                "\"30s\"",
                "By how much the clock of who made a token may differ: `exp` and `nbf` count with it.",
            ),
            key("require", "claim or list", "[\"exp\"]", "Claims that a token must have."),
        ],
    },
    Section {
        path: "auth.*.jwt.tls",
        header: "auth.NAME.jwt.tls = { ... }",
        doc: "TLS towards the URL of `jwks`, if that is to be another than with the machine's trust; as `service.NAME.tls`.",
        keys: service::TLS_KEYS,
    },
    Section {
        path: "auth.*.api_keys",
        header: "auth.NAME.api_keys = { ... }",
        doc: "API keys, as `x-api-key: KEY` or `authorization: Bearer KEY`. `tidegate key FILE` makes them; the file has their hashes.",
        keys: &[
            key(
                "file",
                "path",
                "required",
                "Lines of `ID HASH NAME=VALUE...`: the values are claims, but for `expires`, `day` and `month`. Read again when it changes, and by a reload.",
            ),
            key("header", "header name", "\"x-api-key\"", "The field that a key stands in."),
        ],
    },
    Section {
        path: "authorizer.*",
        header: "[authorizer.NAME]",
        doc: "A server that decides whether a request may go on, for routes to name. See [identity](identity.md#asking-another-server).",
        keys: &[
            key("to", "service", "required", "Who is asked, by GET."),
            key(
                "path",
                "text",
                "\"/\"",
                "Where. What the request is for stands in `x-forwarded-method` and `x-forwarded-uri`.",
            ),
            key("timeout", "duration", "\"1s\"", "For all of a question."),
            key(
                "on_failure",
                "`\"deny\"`, `\"allow\"`",
                "\"deny\"",
                "What becomes of requests when there is no answer, or an error (5xx): 503, or they go on.",
            ),
            key("shows", "header name or list", "every", "Fields of the request that the question has, too."),
            key(
                "says",
                "header name or list",
                "[]",
                "Fields of the answer that the request gets; those that the client has sent by these names go no further.",
            ),
        ],
    },
    Section {
        path: "auth.*.api_keys.quota",
        header: "auth.NAME.api_keys.quota = { ... }",
        doc: "Requests that each key may make in a day and in a month (UTC). A key's line says otherwise by `day=10000`, `month=off`.",
        keys: &[
            key(
                "file",
                "path",
                "required",
                "Where it is kept what the keys have used. The gateway makes it, writes it while it runs and at its end, and reads it when it starts; no other gateway may use it.",
            ),
            key("day", "1 to 1000000000000 or `\"off\"`", "\"off\"", "Of a key whose line has no `day=`."),
            key(
                "month",
                "1 to 1000000000000 or `\"off\"`",
                "\"off\"",
                "Of a key whose line has no `month=`.",
            ),
        ],
    },
    Section {
        path: "limit.*",
        header: "[limit.NAME]",
        doc: "How often anybody may ask: a bucket of tokens for each key, exact over all workers, for routes to name. See [limits](limits.md).",
        keys: &[
            key(
                "rate",
                "number or text",
                "required",
                "Tokens a second, or `\"100/m\"`, `\"5000/h\"`, `\"100000/d\"`.",
            ),
            key("burst", "number", "that of `rate`, without its unit", "Tokens that a full bucket has."),
            key(
                "key",
                "text or list",
                "[]",
                "What tells one bucket from another: `\"client\"`, `\"header:NAME\"`, `\"claim:NAME\"`, `\"query:NAME\"`, `\"path:NAME\"`, `\"host\"`, `\"route\"`; without any there is one for all. Who lacks it shares a bucket.",
            ),
            key(
                "keys",
                "1 to 16777216",
                "100000",
                "Keys that may be told apart at once; those beyond share a bucket, and are counted.",
            ),
        ],
    },
];

/// (section, key, what it will do). Refused rather than unknown, so that nobody hunts for a typing mistake.
pub const LATER: &[(&str, &str, &str)] = &[
    ("", "video", "camera and video sources"),
    ("", "trace", "trace export by OTLP"),
    ("", "redis", "limits shared between machines"),
    ("service.*.endpoints", "zone", "zones"),
    ("route.match", "body", "routing by a field of a JSON body"),
];
