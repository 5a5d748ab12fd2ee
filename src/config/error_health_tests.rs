//! What is said of mistakes in how a service takes failures.

use super::*;

const HEALTH: &[Case] = &[
    (
        "[service.m]\nendpoints = [\"a:1\"]\nhealth = \"/healthz\"",
        "3:10",
        "expected a table such as `health",
        "",
    ),
    (
        "[service.m]\nendpoints = [\"a:1\"]\nhealth = { path = \"healthz\" }",
        "3:19",
        "\"healthz\" is no path",
        "a slash",
    ),
    (
        "[service.m]\nendpoints = [\"a:1\"]\nhealth = { path = \"/a b\" }",
        "3:19",
        "\"/a b\" is no path",
        "a slash",
    ),
    (
        "[service.m]\nendpoints = [\"a:1\"]\nhealth = { host = \"a\\r\\nb\" }",
        "3:19",
        "letters that no name has",
        "",
    ),
    ("[service.m]\nendpoints = [\"a:1\"]\nconcurrency = { queue = 1 }", "3:15", "has no `requests`", ""),
    ("[service.m]\nendpoints = [\"a:1\"]\nconcurrency = { requests = 0 }", "3:28", "out of range", ""),
    (
        "[service.m]\nendpoints = [\"a:1\"]\nconcurrency = { requests = 4, each = 2 }",
        "3:31",
        "`each` does nothing without `by`",
        "claim:sub",
    ),
    (
        "[service.m]\nendpoints = [\"a:1\"]\nconcurrency = { requests = 4, by = \"path:model\" }",
        "3:36",
        "a service sees requests of several routes",
        "claim:NAME",
    ),
    (
        "[[route]]\nto = \"m\"\nmatch.content_type = \"image\"\n[service.m]\nendpoints = [\"a:1\"]",
        "3:22",
        "\"image\" is not a media type",
        "image/*",
    ),
    (
        "[[route]]\nto = \"m\"\nmatch.model = []\n[service.m]\nendpoints = [\"a:1\"]",
        "3:7",
        "an empty list",
        "leave it out",
    ),
    (
        "[listen.u]\naddress = \"127.0.0.1:1\"\nprotocol = \"udp\"\nto = \"m\"\nper_address = { connections = 1 }\n[service.m]\nendpoints = [\"a:1\"]",
        "5:1",
        "`per_address` is for listeners with",
        "`flows_max` bounds flows",
    ),
    (
        "[listen.u]\naddress = \"127.0.0.1:1\"\nper_address = {}",
        "3:15",
        "an address may have anything",
        "connections = 100",
    ),
    (
        "[listen.u]\naddress = \"127.0.0.1:1\"\nper_address = { connections = 5, burst = 2 }",
        "3:34",
        "`burst` does nothing without `rate`",
        "or remove this",
    ),
    (
        "[[route]]\nto = \"m\"\nshadow = { percent = 5 }\n[service.m]\nendpoints = [\"a:1\"]",
        "3:10",
        "has no `to`",
        "",
    ),
    (
        "[[route]]\nto = \"m\"\nshadow = { to = \"n\" }\n[service.m]\nendpoints = [\"a:1\"]",
        "3:17",
        "there is no service \"n\"",
        "did you mean \"m\"?",
    ),
    (
        "[[route]]\nto = \"m\"\nshadow = { to = \"n\" }\n[service.m]\nendpoints = [\"a:1\"]\n[service.n]\nendpoints = [\"a:2\"]\nproxy_protocol = \"v2\"",
        "3:17",
        "there is none here",
        "without `proxy_protocol`",
    ),
    (
        "[[route]]\nto = \"m\"\ncheck = {}\n[service.m]\nendpoints = [\"a:1\"]",
        "3:9",
        "this check does nothing",
        "json = \"inference\"",
    ),
    (
        "[[route]]\nto = \"m\"\ncheck = { json = \"any\", image_side = 5 }\n[service.m]\nendpoints = [\"a:1\"]",
        "3:25",
        "`image_side` does nothing without `images = true`",
        "or remove this",
    ),
    (
        "[[route]]\nto = \"m\"\ncheck = { json = \"some\" }\n[service.m]\nendpoints = [\"a:1\"]",
        "3:18",
        "some",
        "",
    ),
    (
        "[[route]]\nto = \"m\"\ncheck = { json = \"any\", json_depth = 129 }\n[service.m]\nendpoints = [\"a:1\"]",
        "3:38",
        "out of range",
        "",
    ),
    (
        "[[route]]\nto = \"m\"\nfault = {}\n[service.m]\nendpoints = [\"a:1\"]",
        "3:9",
        "this fault does nothing",
        "abort",
    ),
    (
        "[[route]]\nto = \"m\"\nfault = { delay_percent = 5, abort = 500 }\n[service.m]\nendpoints = [\"a:1\"]",
        "3:11",
        "`delay_percent` does nothing without `delay`",
        "add `delay`",
    ),
    (
        "[[route]]\nto = \"m\"\nfault = { abort = 200 }\n[service.m]\nendpoints = [\"a:1\"]",
        "3:19",
        "out of range",
        "",
    ),
    ("[service.m]\nendpoints = [\"a:1\"]\nhealth = { type = \"udp\" }", "3:19", "is none of \"http\"", ""),
    (
        "[service.m]\nendpoints = [\"a:1\"]\nhealth = { type = \"tcp\", path = \"/\" }",
        "3:26",
        "`path` is for checks with `type = \"http\"`",
        "change `type`",
    ),
    (
        "[service.m]\nendpoints = [\"a:1\"]\nhealth = { service = \"m\" }",
        "3:12",
        "`service` is for checks with `type = \"grpc\"`",
        "change `type`",
    ),
    (
        "[service.m]\nendpoints = [\"a:1\"]\nhealth = { interval = \"10ms\" }",
        "3:23",
        "at most every 100ms",
        "\"100ms\"",
    ),
    (
        "[service.m]\nendpoints = [\"a:1\"]\nhealth = { status = [100] }",
        "3:22",
        "expected a whole number from 200 to 599",
        "",
    ),
    (
        "[service.m]\nendpoints = [\"a:1\"]\nhealth = { url = \"/\" }",
        "3:12",
        "unknown key `url`",
        "known here",
    ),
    ("[service.m]\nendpoints = [\"a:1\"]\noutlier = { failures = 0 }", "3:24", "0 is out of range", ""),
    ("[service.m]\nendpoints = [\"a:1\"]\noutlier = { failures = \"no\" }", "3:24", "or \"off\"", ""),
    ("[service.m]\nendpoints = [\"a:1\"]\nbreaker = \"on\"", "3:11", "is none of \"adaptive\"", ""),
    ("[service.m]\nendpoints = [\"a:1\"]\nbreaker = true", "3:11", "expected a table such as `breaker", ""),
    (
        "[service.m]\nendpoints = [\"a:1\"]\nbreaker = { window = \"10ms\" }",
        "3:22",
        "from 1s to 1h",
        "\"10s\"",
    ),
    (
        "[service.m]\nendpoints = [\"a:1\"]\nbreaker = { shed_above = 40 }",
        "3:13",
        "half of the requests are shed above 40 %, and all above 30 %",
        "no more than `reject_above`",
    ),
    ("[service.m]\nendpoints = [\"a:1\"]\npanic = 101", "3:9", "101 is out of range", ""),
    ("[service.m]\nendpoints = [{ address = \"a:1\", priority = 10 }]", "2:44", "10 is out of range", ""),
];

#[test]
fn failures() {
    assert_cases(Severity::Error, HEALTH);
}
