//! Owns the "did you mean": the nearest of some names by edit distance, and the words of nginx, HAProxy, Envoy
//! and Traefik for what is called otherwise here. Pure; knows nothing of files.

/// The name nearest to `written`, if one is near enough to be meant.
pub fn nearest<'n>(written: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let wanted = normal(written);
    let reach = (wanted.chars().count() / 3).clamp(1, 4);
    let scored = names
        .into_iter()
        .take(NAMES_MAX)
        .filter_map(|name| Some((distance(&wanted, &normal(name), reach)?, name)));
    scored.min_by_key(|&(score, _)| score).map(|(_, name)| name)
}

/// Names looked at for one suggestion, so that a file of 100,000 services and as many mistakes is read in time.
const NAMES_MAX: usize = 2000;

/// What another proxy's word is called here, inside the section `path` (`""` is the top).
pub fn synonym(path: &str, written: &str) -> Option<&'static str> {
    let wanted = normal(written);
    let found =
        SYNONYMS.iter().find(|(section, words, _)| *section == path && words.contains(&wanted.as_str()));
    found.map(|&(_, _, ours)| ours)
}

/// The same for a word that is a value, such as a balancing method.
pub fn value_synonym(written: &str) -> Option<&'static str> {
    let wanted = normal(written);
    VALUE_SYNONYMS.iter().find(|(words, _)| words.contains(&wanted.as_str())).map(|&(_, ours)| ours)
}

fn normal(word: &str) -> String {
    word.chars().take(WORD_CHARS_MAX).map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() }).collect()
}

const WORD_CHARS_MAX: usize = 64;

/// Edits (insert, delete, replace, swap of neighbours) between two words, or `None` beyond `reach`.
/// Optimal string alignment: three rows of the usual table.
fn distance(a: &str, b: &str, reach: usize) -> Option<usize> {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > reach {
        return None;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    Some(above[b.len()]).filter(|&edits| edits <= reach)
}

/// (section, words in lower case with `_`, ours)
pub(super) const SYNONYMS: &[(&str, &[&str], &str)] = &[
    ("", &["upstream", "upstreams", "backend", "backends", "cluster", "clusters", "pools"], "service"),
    ("", &["services"], "service"),
    ("", &["server", "servers", "frontend", "frontends", "entrypoint", "entrypoints"], "listen"),
    ("", &["listener", "listeners", "bind"], "listen"),
    ("", &["routes", "router", "routers", "location", "locations", "rule", "rules", "virtual_host"], "route"),
    ("", &["threads", "nbthread", "worker", "worker_processes", "concurrency"], "workers"),
    ("", &["resolver", "resolvers"], "dns"),
    ("", &["timeout"], "timeouts"),
    ("", &["limit_request", "limits_http"], "limits"),
    ("", &["logs", "logging", "access_log"], "log"),
    ("", &["io", "runtime", "backend_driver"], "driver"),
    ("", &["stats", "metrics", "api"], "admin"),
    ("admin", &["token", "secret", "password", "auth"], "token_file"),
    ("admin", &["bind", "port", "listen", "host", "addr"], "address"),
    ("admin", &["https", "ssl"], "tls"),
    ("log", &["access_log", "file", "path"], "access"),
    ("dns", &["valid", "ttl", "interval"], "refresh"),
    ("reload", &["auto", "watch_file", "enabled"], "watch"),
    ("shutdown", &["timeout", "grace", "grace_period", "drain", "drain_timeout"], "deadline"),
    ("limits", &["client_max_body_size", "max_body", "max_body_size", "body_size", "request_body"], "body"),
    ("limits", &["max_connections", "worker_connections", "maxconn", "max_conn"], "connections"),
    ("limits", &["header_size", "max_header_size", "large_client_header_buffers", "header_bytes"], "head"),
    ("limits", &["url", "path", "target"], "uri"),
    ("limits", &["header_count", "max_headers", "fields"], "headers"),
    ("timeouts", &["client_header_timeout", "http_request", "http-request", "read", "headers"], "header"),
    ("timeouts", &["client_body_timeout"], "body"),
    ("timeouts", &["keepalive", "keep_alive", "keepalive_timeout", "http_keep_alive", "client"], "idle"),
    ("timeouts", &["send", "send_timeout"], "write"),
    ("timeouts", &["proxy_connect_timeout"], "connect"),
    ("timeouts", &["proxy_read_timeout", "response", "server", "ttfb"], "first_byte"),
    ("timeouts", &["total", "overall", "whole"], "request"),
    ("timeouts", &["websocket", "upgrade"], "tunnel"),
    ("timeouts", &["proxy_timeout", "stream"], "tcp"),
    ("pool", &["keepalive", "max_idle", "size"], "idle"),
    ("pool", &["max_idle_per_host", "per_host", "idle_per_host"], "idle_per_endpoint"),
    ("pool", &["keepalive_timeout", "timeout"], "idle_timeout"),
    ("forward", &["set_real_ip_from", "trusted_proxies", "trusted_ips", "trust"], "trusted"),
    ("listen.*", &["bind", "port", "listen", "host", "addr", "socket"], "address"),
    ("listen.*", &["proto", "scheme", "mode", "type", "kind"], "protocol"),
    ("listen.*", &["proxy_pass", "default_backend", "service", "upstream", "backend", "target"], "to"),
    ("listen.*", &["proxy_timeout", "timeout", "idle"], "idle_timeout"),
    ("listen.*", &["proxy_responses", "answers", "replies"], "responses"),
    ("listen.*", &["flows", "sessions", "max_flows", "max_sessions"], "flows_max"),
    ("listen.*", &["accept_proxy", "proxy"], "proxy_protocol"),
    ("listen.*.proxy_protocol", &["trusted_ips", "set_real_ip_from", "from", "trust"], "trusted"),
    (
        "service.*",
        &["server", "servers", "target", "targets", "addresses", "address", "hosts", "host"],
        "endpoints",
    ),
    (
        "service.*",
        &["backend", "backends", "members", "nodes", "upstream", "upstreams", "url", "urls"],
        "endpoints",
    ),
    (
        "service.*",
        &["lb", "lb_policy", "algorithm", "strategy", "load_balancing", "load_balancer"],
        "balance",
    ),
    ("service.*", &["hash", "hash_key", "hash_on", "sticky"], "hash_by"),
    ("service.*", &["timeout"], "timeouts"),
    ("service.*", &["send_proxy", "send_proxy_v2", "proxy"], "proxy_protocol"),
    ("service.*", &["retries", "max_retries", "proxy_next_upstream"], "retry"),
    ("service.*.endpoints", &["server", "host", "addr", "url", "target"], "address"),
    ("service.*.timeouts", &["proxy_connect_timeout"], "connect"),
    ("service.*.timeouts", &["proxy_read_timeout", "response", "read", "ttfb"], "first_byte"),
    ("service.*.timeouts", &["total", "overall", "whole"], "request"),
    ("service.*.retry", &["tries", "count", "max", "retries", "max_retries", "num_retries"], "attempts"),
    ("service.*.retry", &["status", "statuses", "on", "retry_on"], "on_status"),
    ("service.*.retry", &["budget", "percent"], "budget_percent"),
    ("route", &["proxy_pass", "backend", "use_backend", "service", "upstream", "cluster", "target"], "to"),
    ("route", &["forward", "forward_to", "endpoint", "endpoints", "destination"], "to"),
    ("route", &["fallback", "default", "default_backend", "default_service", "else"], "otherwise"),
    ("route", &["path", "prefix", "location", "uri", "paths", "path_prefix"], "match.path"),
    ("route", &["host", "hosts", "server_name", "domain", "hostname"], "match.host"),
    ("route", &["method", "methods"], "match.method"),
    ("route", &["header"], "match.header"),
    ("route", &["query"], "match.query"),
    ("route", &["when", "if", "matches", "rule", "matcher"], "match"),
    ("route", &["return", "direct_response", "fixed_response", "response"], "respond"),
    ("route", &["headers", "set_headers", "proxy_set_header", "request_header"], "request_headers.set"),
    ("route", &["add_header", "add_headers", "response_header"], "response_headers.add"),
    ("route", &["client_max_body_size", "max_body", "max_body_size", "body"], "body_limit"),
    ("route", &["timeouts", "request_timeout"], "timeout"),
    ("route", &["stream_timeout", "stream_idle_timeout", "proxy_read_timeout"], "idle_timeout"),
    ("route", &["strip_prefix", "path_rewrite", "replace_path", "prefix_rewrite"], "rewrite"),
    ("route", &["id"], "name"),
    ("route.match", &["uri", "url", "prefix", "location", "paths", "path_prefix"], "path"),
    ("route.match", &["hosts", "domain", "server_name", "authority", "hostname"], "host"),
    ("route.match", &["methods", "verb"], "method"),
    ("route.match", &["params", "param", "query_params", "args", "arg"], "query"),
    ("route.match", &["listen", "listeners", "port", "entrypoint", "entrypoints"], "listener"),
    ("route.redirect", &["location", "url", "uri", "target"], "to"),
    ("route.redirect", &["code", "status_code"], "status"),
    ("route.respond", &["code", "status_code"], "status"),
    ("route.respond", &["text", "content"], "body"),
    ("route.respond", &["type", "mime"], "content_type"),
    ("route.rewrite", &["uri", "replace", "to"], "path"),
    ("route.rewrite", &["prefix", "strip"], "strip_prefix"),
    ("route.rewrite", &["pattern", "match", "from"], "regex"),
    ("route.rewrite", &["with", "substitution"], "replacement"),
    ("route.request_headers", &["replace", "overwrite"], "set"),
    ("route.request_headers", &["append"], "add"),
    ("route.request_headers", &["delete", "del", "unset", "hide"], "remove"),
    ("route.response_headers", &["replace", "overwrite"], "set"),
    ("route.response_headers", &["append"], "add"),
    ("route.response_headers", &["delete", "del", "unset", "hide"], "remove"),
];

const VALUE_SYNONYMS: &[(&[&str], &str)] = &[
    (
        &["rr", "roundrobin", "round_robin", "weighted", "wrr", "static_rr", "weighted_round_robin"],
        "round-robin",
    ),
    (&["least_conn", "leastconn", "least_connections", "least_requests", "p2c", "lor"], "least-request"),
    (
        &["ip_hash", "source", "maglev", "ring_hash", "ring", "consistent_hash", "uri", "sticky", "cookie"],
        "hash",
    ),
    (&["io_uring", "iouring"], "uring"),
    (&["poll", "legacy"], "epoll"),
    (&["http1", "http/1.1", "h1", "http11"], "http"),
    (&["ip", "client_ip", "client_address", "address", "source_ip", "remote_addr", "src"], "client"),
    (&["uri", "url"], "path"),
    (&["none", "no", "false", "disabled"], "off"),
    (&["/dev/stdout", "-", "console"], "stdout"),
    (&["/dev/stderr"], "stderr"),
];
