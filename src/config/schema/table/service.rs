//! Owns the part of the list of keys that is of services: where they are, what is spoken with them, and how they take failures.

use crate::config::schema::{Key, Section, key};

pub const SECTIONS: &[Section] = &[
    Section {
        path: "service.*",
        header: "[service.NAME]",
        doc: "Endpoints that can do the same work.",
        keys: &[
            key(
                "endpoints",
                "list of `\"host:port\"` or `{ address, weight, priority }`",
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
                "breaker",
                "`\"adaptive\"`, `\"off\"`, or a table",
                "none",
                "Answers for a service most of whose requests fail, before they are sent.",
            ),
            key(
                "slow_start",
                "duration or `\"off\"`",
                "\"off\"",
                "An endpoint that comes, or comes back, has a tenth of its weight at first and all of it after so long.",
            ),
            key(
                "panic",
                "0 to 100",
                "50",
                "With less than so many percent of the endpoints usable all of them are used: it is likelier that the checks are wrong. 0: never; without a usable endpoint requests are answered 503.",
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
            key(
                "priority",
                "0 to 9",
                "0",
                "Those of the next priority have what the usable ones of the first cannot have: nothing while 72 % of these are usable, all once none is.",
            ),
        ],
    },
    Section {
        path: "service.*.health",
        header: "service.NAME.health = { ... }",
        doc: "Asks each endpoint now and then whether it is well; one that is not has no requests. See [failures](failures.md).",
        keys: &[
            key(
                "type",
                "`\"http\"`, `\"tcp\"`, `\"grpc\"`",
                "\"http\"",
                "A GET, a connection, or gRPC's health service (grpc.health.v1).",
            ),
            key(
                "path",
                "path",
                "\"/v2/health/ready\"",
                "What is asked for. The default is the Open Inference Protocol's.",
            ),
            key("host", "text", "none", "The `host` field, instead of the endpoint as it is written."),
            key("status", "list of 200 to 599", "[]", "Answers that are well; without it 200 to 299."),
            key(
                "service",
                "text",
                "\"\"",
                "Of gRPC: which service is asked about; without it the server as a whole.",
            ),
            key("port", "1 to 65535", "none", "Instead of the endpoint's own."),
            key("interval", "duration", "\"5s\"", "From one check to the next, and up to a tenth more."),
            key("timeout", "duration", "\"2s\"", "For a whole check."),
            key("healthy", "1 to 100", "2", "Good ones in a row until a bad endpoint has requests again."),
            key(
                "unhealthy",
                "1 to 100",
                "2",
                "Bad ones in a row until it has none. The first check of all decides alone.",
            ),
        ],
    },
    Section {
        path: "service.*.outlier",
        header: "service.NAME.outlier = { ... }",
        doc: "An endpoint whose requests fail, one after the other, is left out for a while: connections that cannot be made or break, answers that do not come or are no HTTP, statuses from 500 but for 501 and 505, UNAVAILABLE. Never the last usable one.",
        keys: &[
            key("failures", "1 to 1000 or `\"off\"`", "5", "In a row."),
            key(
                "ejection",
                "duration",
                "\"30s\"",
                "For so long; twice as long the second time in a row, and so on up to ten times.",
            ),
            key("percent", "1 to 100", "50", "Of the endpoints that may be out at once; one always may."),
        ],
    },
    Section {
        path: "service.*.concurrency",
        header: "service.NAME.concurrency = { ... }",
        doc: "How many requests the service has at once, from all workers together; others wait in line, and tenants take turns. See [limits](limits.md#at-once).",
        keys: &[
            key("requests", "1 to 1000000", "required", "At once."),
            key(
                "by",
                "text or list",
                "[]",
                "Who a tenant is, as the `key` of a limit: `\"claim:sub\"`, `\"header:NAME\"`, `\"client\"`.",
            ),
            key("each", "1 to 1000000", "none", "At once of one tenant."),
            key(
                "queue",
                "0 to 100000",
                "100",
                "How many wait. In a full line the last of the tenant of whom most wait makes room for others; else 503, and 429 for who has all that `each` allows.",
            ),
            key("wait", "duration", "\"10s\"", "How long; then 503."),
        ],
    },
    Section {
        path: "service.*.model",
        header: "[service.NAME.model]",
        doc: "Requests are converted to what a model server reads, and its answers to what clients read. See [inference](inference.md).",
        keys: &[
            key(
                "protocol",
                "`\"grpc\"`, `\"rest\"`, `\"binary\"`, `\"tensor\"`",
                "required",
                "What the server reads: the Open Inference Protocol as gRPC, as JSON, as JSON with tensors in binary, or `TensorRequest` of proto/tensor.proto.",
            ),
            key("name", "text", "none", "How the server calls the model; all but `tensor` need it."),
            key("version", "text", "none", "Which version of it; without it the server chooses."),
            key("path", "path", "\"/\"", "Where a `TensorRequest` is sent."),
            key(
                "memory",
                "size",
                "\"256MiB\"",
                "What all requests of the service that are being converted hold at once: bodies, each counted twice, pixels, tensors and answers. More are answered 503 before their body is read.",
            ),
            key("image_side", "1 to 4294967295", "16384", "Pixels of width and height each; more is 422."),
            key("image_pixels", "1 to 4294967295", "100000000", "Pixels of all the image; more is 422."),
        ],
    },
    Section {
        path: "service.*.model.inputs",
        header: "[[service.NAME.model.inputs]]",
        doc: "What the model takes. Without any, inference requests are converted as they are, and nothing else is.",
        keys: &[
            key("name", "text", "required", "As the server calls it."),
            key(
                "datatype",
                "`\"FP32\"`, `\"UINT8\"`, `\"BYTES\"`, ...",
                "required",
                "As the protocol calls it.",
            ),
            key(
                "shape",
                "list of -1, 1 to 2147483647",
                "[]",
                "Without the dimension of the batch; -1: any. Of an image `[3, 224, 224]`, or `[224, 224, 3]`, if nothing is said.",
            ),
            key(
                "batch",
                "boolean",
                "true",
                "The model takes a dimension for the batch in front of the others.",
            ),
            key("json", "JSON pointer", "none", "Where it stands in a client's own JSON: `\"/text\"`."),
            key(
                "image",
                "boolean",
                "false",
                "It is made of images: JPEG, PNG, WebP; as the body, in a form, or as base64 in JSON. With BYTES they are judged and passed on as they are.",
            ),
            key(
                "layout",
                "`\"NCHW\"`, `\"NHWC\"`",
                "none",
                "Of an image: a plane for each channel, or a pixel's channels side by side. Required.",
            ),
            key("colors", "`\"rgb\"`, `\"bgr\"`, `\"gray\"`", "\"rgb\"", "The channels, in this order."),
            key(
                "fit",
                "`\"stretch\"`, `\"letterbox\"`, `\"crop\"`",
                "\"stretch\"",
                "How an image of other sides becomes one of these: each side by itself, all of it between bars, or its middle.",
            ),
            key("pad", "0 to 255", "0", "Level of the bars of `letterbox`."),
            key(
                "scale",
                "number or fraction",
                "1",
                "A level, 0 to 255, becomes `(level * scale - mean) / std`. `\"1/255\"` for levels from 0 to 1.",
            ),
            key("mean", "number, or one for each channel", "none", "0 if nothing is said."),
            key("std", "number, or one for each channel", "none", "1 if nothing is said."),
        ],
    },
    Section {
        path: "service.*.model.outputs",
        header: "[[service.NAME.model.outputs]]",
        doc: "What is to be known of what the model gives.",
        keys: &[
            key("name", "text", "required", "As the server calls it."),
            key(
                "datatype",
                "`\"FP32\"`, ...",
                "none",
                "Of a `TensorResponse`, which does not say it; FP32 if nothing is said.",
            ),
            key(
                "top",
                "1 to 1000",
                "none",
                "Its elements are scores of classes: clients that do not ask by the protocol are told the best so many, as `{\"model\", \"predictions\": [[{\"index\", \"label\", \"score\"}]]}`.",
            ),
            key("softmax", "boolean", "false", "Scores are made to sum up to 1 for each image."),
            key("labels", "path", "none", "A file with a label on each line, from class 0 on."),
        ],
    },
    Section {
        path: "service.*.breaker",
        header: "service.NAME.breaker = { ... }",
        doc: "Spares a service most of whose requests fail. `breaker = \"adaptive\"` has all of these defaults.",
        keys: &[
            key(
                "window",
                "1s to 1h",
                "\"10s\"",
                "Whose requests count; also how long an open breaker lets none through.",
            ),
            key("requests", "1 to 1000000", "20", "Fewer in the window say nothing."),
            key(
                "shed_above",
                "1 to 100",
                "10",
                "Failures in percent above which every second request is answered 503.",
            ),
            key(
                "reject_above",
                "1 to 100",
                "30",
                "And above which all are, for a window; then one at a time is tried.",
            ),
            key(
                "probes",
                "1 to 100",
                "3",
                "So many of those must go well, in a row, until all is as before.",
            ),
        ],
    },
    Section {
        path: "service.*.tls",
        header: "service.NAME.tls = { ... }",
        doc: "TLS 1.2 and 1.3 towards the endpoints; `{}` is enough where the machine trusts them. `timeouts.connect` bounds connecting and the handshake. A reload reads the files again.",
        keys: TLS_KEYS,
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
];

/// Of TLS that we begin.
pub const TLS_KEYS: &[Key] = &[
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
];
