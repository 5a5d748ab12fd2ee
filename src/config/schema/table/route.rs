//! Owns the part of the list of keys that is of routes.

use crate::config::schema::{Section, key};

pub const SECTIONS: &[Section] = &[
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
            key(
                "auth",
                "name",
                "none",
                "Who may ask: whoever `[auth.NAME]` verifies. Others are answered 401, but for preflights of `cors`.",
            ),
            key(
                "limits",
                "name or list",
                "[]",
                "`NAME` of `[limit.NAME]`, at most 8: a request needs a token of each; else 429.",
            ),
            key("body_limit", "size or `\"off\"`", "that of `limits.body`", "Bytes of a request body."),
            key(
                "content_types",
                "media type or list",
                "every",
                "What a request's body may be: `\"application/json\"`, `\"image/*\"`; else 415.",
            ),
            key(
                "response_message_limit",
                "size or `\"off\"`",
                "that of `limits.response_message`",
                "Bytes of a message in the answer to a gRPC call.",
            ),
        ],
    },
    Section {
        path: "route.allow",
        header: "route.allow = { CLAIM = ... }",
        doc: "What the claims of whoever `auth` has verified must be, all of them; else 403.",
        keys: &[key(
            "*",
            "text or boolean",
            "none",
            "As for a header. A list holds if one of its items does; `a.b` is `b` inside `a`.",
        )],
    },
    Section {
        path: "route.canary",
        header: "route.canary = { ... }",
        doc: "A part of the route's requests goes to another service. Not those for which `to` has found one by its template. See [canary](canary.md).",
        keys: &[
            key("to", "service's name", "required", "Where they go."),
            key(
                "percent",
                "0 to 100",
                "0",
                "How many, to four decimals. `POST /canaries` of the admin endpoint changes it.",
            ),
            key(
                "by",
                "text",
                "none",
                "Who asks, so that the same one is always on the same side: `\"claim:NAME\"`, `\"header:NAME\"`, `\"cookie:NAME\"`, `\"client\"`; without it each request is drawn by itself.",
            ),
        ],
    },
    Section {
        path: "route.canary.rollback",
        header: "route.canary.rollback = { ... }",
        doc: "Gives the canary up, `percent` to 0, when its requests fare worse than the route's others.",
        keys: &[
            key("window", "1s to 1h", "\"1m\"", "Whose requests count."),
            key("requests", "1 to 1000000", "50", "On each side; fewer say nothing."),
            key(
                "errors",
                "1 to 1000 or `\"off\"`",
                "2",
                "How many times the others' part of failures, which counts as 1 % at least.",
            ),
            key(
                "latency",
                "1 to 1000 or `\"off\"`",
                "2",
                "How many times the others' 99th percentile of the time to an answer's head, and 10 ms more at least.",
            ),
        ],
    },
    Section {
        path: "route.canary.header",
        header: "route.canary.header = { NAME = ... }",
        doc: "Requests that go there whatever the share: those of which one of these holds.",
        keys: &[key("*", "text or boolean", "none", "As in `match`.")],
    },
    Section {
        path: "route.fault",
        header: "route.fault = { ... }",
        doc: "Faults on purpose, to see how clients take them: requests that no endpoint hears of, or late. See [failures](failures.md#on-purpose).",
        keys: &[
            key("delay", "duration", "none", "For so long a request waits before it is sent."),
            key("delay_percent", "0 to 100", "100", "How many wait, to four decimals."),
            key("abort", "400 to 599", "none", "The status that a request is answered with."),
            key("abort_percent", "0 to 100", "100", "How many are, to four decimals."),
        ],
    },
    Section {
        path: "route.fault.header",
        header: "route.fault.header = { NAME = ... }",
        doc: "Only requests of which all of these hold.",
        keys: &[key("*", "text or boolean", "none", "As in `match`.")],
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
            key(
                "content_type",
                "media type or list",
                "every",
                "Of the request's body, whatever its parameters: `\"application/json\"`, `\"image/*\"`.",
            ),
            key(
                "model",
                "text, boolean or list",
                "every",
                "What the `model` of a JSON body is, as for a header: `\"llama-3\"`, `\"llama*\"`. The first 64KiB of a body are looked at before its route is chosen.",
            ),
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
        path: "route.match.claim",
        header: "route.match.claim = { NAME = ... }",
        doc: "By a claim that the route's own `auth` has verified: without a valid token the route does not match.",
        keys: &[key("*", "text or boolean", "none", "As for `allow`.")],
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
