//! The peers' configurations: a worker for each core, keep-alive to clients and backend, and what an operator who
//! wants speed would set. Bare forwarding: no header is added by the peers, which favours them.
//! Writes files into the peer's own directory only.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::{Layer, Peer, Programs, Setup, free_address};
use crate::sys;

/// The command that runs `peer` in the foreground, listening on `address`.
pub fn command(
    peer: Peer,
    setup: &Setup,
    dir: &Path,
    address: SocketAddr,
    programs: &Programs,
) -> Result<Command, String> {
    // Envoy tells the format by the ending.
    let file = dir.join(if peer == Peer::Envoy { "config.json" } else { "config" });
    let text = match peer {
        Peer::Tidegate | Peer::TidegateTwo => tidegate(setup, dir, address)?,
        Peer::Nginx => nginx(setup, dir, address, programs, false)?,
        Peer::NginxTuned => nginx(setup, dir, address, programs, true)?,
        Peer::Haproxy => haproxy(setup, dir, address, false),
        Peer::HaproxySplice => haproxy(setup, dir, address, true),
        Peer::Envoy => envoy(setup, dir, address),
        Peer::H2o => h2o(setup, address),
        Peer::Nghttpx => String::new(),
        Peer::Forwarder | Peer::ForwarderSplice | Peer::Direct => String::new(),
    };
    fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;
    let found = |program: &Option<_>| -> Result<Command, String> {
        program.as_ref().map(Command::new).ok_or_else(|| format!("{} is not installed", peer.name()))
    };
    let mut command = match peer {
        Peer::Tidegate | Peer::TidegateTwo => found(&programs.tidegate)?,
        Peer::Nginx | Peer::NginxTuned => found(&programs.nginx)?,
        Peer::Haproxy | Peer::HaproxySplice => found(&programs.haproxy)?,
        Peer::Envoy => found(&programs.envoy)?,
        Peer::Nghttpx => found(&programs.nghttpx)?,
        Peer::H2o => found(&programs.h2o)?,
        Peer::Forwarder | Peer::ForwarderSplice | Peer::Direct => {
            Command::new(std::env::current_exe().map_err(|error| error.to_string())?)
        }
    };
    match peer {
        Peer::Tidegate | Peer::TidegateTwo => command.args(["run", "-c"]).arg(&file),
        Peer::Nginx | Peer::NginxTuned => {
            command.arg("-p").arg(dir).arg("-e").arg(dir.join("stderr")).arg("-c").arg(&file)
        }
        Peer::Haproxy | Peer::HaproxySplice => command.arg("-db").arg("-f").arg(&file),
        Peer::Envoy => {
            let workers = setup.cores.len().to_string();
            let fixed = ["--log-level", "error", "--disable-hot-restart", "-c"];
            command.args(["--concurrency", &workers]).args(fixed).arg(&file)
        }
        Peer::H2o => command.arg("-c").arg(&file),
        Peer::Nghttpx => command.args(nghttpx(setup, address)),
        Peer::Forwarder | Peer::ForwarderSplice | Peer::Direct => {
            command.args(["forwarder", "--listen", &address.to_string(), "--to", &setup.backend.to_string()])
        }
    };
    if peer == Peer::ForwarderSplice {
        command.arg("--splice");
    }
    Ok(command)
}

fn tidegate(setup: &Setup, dir: &Path, address: SocketAddr) -> Result<String, String> {
    let admin = free_address().map_err(|error| error.to_string())?;
    let log = if setup.access_log { dir.join("access.log").display().to_string() } else { "off".to_owned() };
    const ROUTE: &str = "\n[[route]]\nname = \"all\"\nmatch = { path = \"/**\" }\nto = \"backend\"\n";
    let (listener, route) = match setup.layer {
        Layer::Http | Layer::Http2 | Layer::Grpc => ("", ROUTE),
        Layer::Https => {
            ("protocol = \"https\"\ntls = { certificate = \"edge.pem\", key = \"edge.key\" }\n", ROUTE)
        }
        Layer::Tcp => ("protocol = \"tcp\"\nto = \"backend\"\n", ""),
    };
    let (workers, backend) = (setup.cores.len(), setup.backend);
    let route =
        if setup.policies { POLICIES.replace("BACKEND", &backend.to_string()) } else { route.to_owned() };
    let protocol = if setup.layer == Layer::Grpc { "protocol = \"h2\"" } else { "" };
    Ok(format!(
        "workers = {workers}

[admin]
address = \"{admin}\"

# As nginx's `keepalive 512`: fewer than the connections of the load would close some after each request.
[pool]
idle_per_endpoint = 512

[log]
access = \"{log}\"

[listen.web]
address = \"{address}\"
{listener}
[service.backend]
endpoints = [\"{backend}\"]
{protocol}
{route}"
    ))
}

/// As in examples/gateway.toml, with limits that nothing reaches.
const POLICIES: &str = r#"
health  = { path = "/" }
breaker = "adaptive"

[service.next]
endpoints = ["BACKEND"]
health    = { path = "/" }
breaker   = "adaptive"

[auth.users]
jwt = { secret = "for-measuring-only-0123456789abcdef", audience = "models" }

[limit.all]
rate  = 1000000
burst = 1000000

[limit.per-model-type]
key   = "header:x-model-type"
rate  = 1000000
burst = 1000000

[[route]]
name = "robots"
match.path = "/robots.txt"
respond = { status = 204 }

[[route]]
name   = "vip"
match  = { path = "/**", claim.group = "vip" }
auth   = "users"
limits = ["all", "per-model-type"]
to     = "next"

[[route]]
name   = "v2"
match  = { path = "/**", header.x-model-version = "v2" }
auth   = "users"
limits = ["all", "per-model-type"]
to     = "next"

[[route]]
name   = "admin"
match  = { path = "/**", method = "DELETE" }
respond = { status = 403 }

[[route]]
name   = "models"
match  = { path = "/**" }
auth   = "users"
limits = ["all", "per-model-type"]
to     = "backend"
canary = { to = "next", percent = 10, by = "claim:sub" }
request_headers.set = { x-user = "{claim:sub}" }
"#;

fn nginx(
    setup: &Setup,
    dir: &Path,
    address: SocketAddr,
    programs: &Programs,
    tuned: bool,
) -> Result<String, String> {
    let (dir, backend) = (dir.display(), setup.backend);
    // As root nginx would drop to a user who cannot enter our private directory.
    let user = if sys::is_root() { "user root root;" } else { "" };
    let common = format!(
        "daemon off;
{user}
worker_processes {workers};
worker_rlimit_nofile {files};
pid {dir}/pid;
events {{ worker_connections 16384; }}
",
        files = setup.open_files,
        workers = setup.cores.len()
    );
    // Without it a few of many workers get most connections.
    let reuseport = if setup.cores.len() > 1 { " reuseport" } else { "" };
    if setup.layer == Layer::Tcp {
        let buffers = if tuned { "proxy_buffer_size 256k;" } else { "" };
        let module =
            programs.nginx_stream.as_ref().ok_or("nginx: L4 needs apt-get install libnginx-mod-stream")?;
        return Ok(format!(
            "load_module {module};
{common}
stream {{
    server {{ listen {address} backlog=4096{reuseport}; proxy_pass {backend}; tcp_nodelay on; {buffers} }}
}}
",
            module = module.display()
        ));
    }
    let log = if setup.access_log {
        format!("{dir}/access.log combined buffer=64k flush=1s")
    } else {
        "off".to_owned()
    };
    // The defaults, 4 KiB, cost half as much again on large bodies.
    let buffers = if tuned {
        "proxy_buffer_size 16k; proxy_buffers 16 16k; proxy_busy_buffers_size 64k; client_body_buffer_size 256k;"
    } else {
        ""
    };
    let connection = match setup.sockets {
        true => "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;",
        false => "proxy_set_header Connection \"\";",
    };
    let (ssl, certificate) = match setup.layer {
        Layer::Https => (
            " ssl",
            format!(
                "ssl_certificate {dir}/edge.pem; ssl_certificate_key {dir}/edge.key; ssl_protocols TLSv1.2 TLSv1.3;"
            ),
        ),
        Layer::Http2 | Layer::Grpc => (" http2", String::new()),
        Layer::Http | Layer::Tcp => ("", String::new()),
    };
    let pass = match setup.layer {
        Layer::Grpc => "grpc_pass grpc://backend;".to_owned(),
        _ => format!(
            "proxy_pass http://backend;
            proxy_http_version 1.1;
            {connection}
            proxy_request_buffering off;
            proxy_max_temp_file_size 0;"
        ),
    };
    Ok(format!(
        "{common}
http {{
    {buffers}
    access_log {log};
    sendfile on;
    tcp_nopush on;
    tcp_nodelay on;
    keepalive_timeout 300s;
    keepalive_requests 1000000000;
    client_max_body_size 0;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    upstream backend {{
        server {backend};
        keepalive 512;
        keepalive_timeout 300s;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {address}{ssl} backlog=4096{reuseport};
        {certificate}
        location / {{
            {pass}
        }}
    }}
}}
"
    ))
}

fn h2o(setup: &Setup, address: SocketAddr) -> String {
    let (host, port, backend) = (address.ip(), address.port(), setup.backend);
    // It drops to nobody otherwise, which is as good, where there is such a user.
    let user = if sys::is_root() { "user: root" } else { "" };
    format!(
        "num-threads: {workers}
{user}
listen:
  host: {host}
  port: {port}
hosts:
  default:
    paths:
      \"/\":
        proxy.reverse.url: \"http://{backend}/\"
        proxy.timeout.keepalive: 300000
",
        workers = setup.cores.len()
    )
}

fn nghttpx(setup: &Setup, address: SocketAddr) -> Vec<String> {
    let (front, back) = (address, setup.backend);
    vec![
        "--conf=/dev/null".to_owned(),
        format!("--workers={}", setup.cores.len()),
        "--single-process".to_owned(),
        format!("--frontend={},{};no-tls", front.ip(), front.port()),
        format!(
            "--backend={},{}{}",
            back.ip(),
            back.port(),
            if setup.layer == Layer::Grpc { ";;proto=h2" } else { "" }
        ),
        "--backend-connections-per-host=512".to_owned(),
        "--errorlog-file=/dev/stderr".to_owned(),
    ]
}

fn haproxy(setup: &Setup, dir: &Path, address: SocketAddr, splice: bool) -> String {
    let (dir, backend) = (dir.display(), setup.backend);
    let (log, log_format) = match (setup.access_log, setup.layer) {
        (false, _) => ("", ""),
        (true, Layer::Http | Layer::Http2 | Layer::Grpc | Layer::Https) => {
            ("log stdout format raw local0", "log global\n  option httplog")
        }
        (true, Layer::Tcp) => ("log stdout format raw local0", "log global\n  option tcplog"),
    };
    let (pipes, splicing) = if splice {
        ("maxpipes 512\n  tune.pipesize 1048576", "option splice-request\n  option splice-response")
    } else {
        ("", "")
    };
    // Without it HAProxy 2.6 holds events back for 80 ms and more, which is cheap and useless.
    let no_delay = if setup.events { "option http-no-delay" } else { "" };
    let (mode, reuse) = match setup.layer {
        Layer::Http | Layer::Http2 | Layer::Grpc | Layer::Https => ("http", "http-reuse always"),
        Layer::Tcp => ("tcp", ""),
    };
    let ssl = match setup.layer {
        Layer::Https => format!("ssl crt {dir}/both.pem"),
        Layer::Http2 | Layer::Grpc => "proto h2".to_owned(),
        Layer::Http | Layer::Tcp => String::new(),
    };
    let proto = if setup.layer == Layer::Grpc { "proto h2" } else { "" };
    // Each connection needs two descriptors, and each pipe two more.
    let connections = (setup.open_files / 2).saturating_sub(1200).min(8000);
    let threads = setup.cores.len();
    let cores = setup.cores.iter().map(usize::to_string).collect::<Vec<_>>().join(" ");
    format!(
        "global
  nbthread {threads}
  cpu-map auto:1/1-{threads} {cores}
  maxconn {connections}
  stats socket {dir}/stats mode 600 level user
  {log}
  {pipes}
defaults
  mode {mode}
  {log_format}
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  {reuse}
  {splicing}
  {no_delay}
frontend web
  bind {address} backlog 4096 {ssl}
  default_backend backend
backend backend
  server one {backend} {proto}
"
    )
}

fn envoy(setup: &Setup, dir: &Path, address: SocketAddr) -> String {
    let log = match setup.access_log {
        true => format!(
            r#", "access_log": [{{"name": "file", "typed_config": {{
              "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
              "path": "{}/access.log"}}}}]"#,
            dir.display()
        ),
        false => String::new(),
    };
    let filter = match setup.layer {
        Layer::Tcp => format!(
            r#"{{"name": "tcp", "typed_config": {{
              "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
              "stat_prefix": "web", "cluster": "backend"{log}}}}}"#
        ),
        Layer::Http | Layer::Http2 | Layer::Grpc | Layer::Https => format!(
            r#"{{"name": "http", "typed_config": {{
              "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
              "stat_prefix": "web", "generate_request_id": false{log},
              "upgrade_configs": [{{"upgrade_type": "websocket"}}],
              "http_filters": [{{"name": "router", "typed_config": {{
                "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                "dynamic_stats": false}}}}],
              "route_config": {{"virtual_hosts": [{{"name": "all", "domains": ["*"],
                "routes": [{{"match": {{"prefix": "/"}}, "route": {{"cluster": "backend", "timeout": "0s"}}}}]}}]}}}}}}"#
        ),
    };
    let tls = match setup.layer {
        Layer::Https => format!(
            r#", "transport_socket": {{"name": "tls", "typed_config": {{
              "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
              "common_tls_context": {{"tls_certificates": [{{
                "certificate_chain": {{"filename": "{0}/edge.pem"}}, "private_key": {{"filename": "{0}/edge.key"}}}}]}}}}}}"#,
            dir.display()
        ),
        Layer::Http | Layer::Http2 | Layer::Grpc | Layer::Tcp => String::new(),
    };
    let protocol = match setup.layer {
        Layer::Grpc => {
            r#""typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
              "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
              "explicit_http_config": {"http2_protocol_options": {}}}},"#
        }
        _ => "",
    };
    format!(
        r#"{{"static_resources": {{
          "listeners": [{{"name": "web", "address": {listen}, "filter_chains": [{{"filters": [{filter}]{tls}}}]}}],
          "clusters": [{{"name": "backend", "type": "STATIC", "connect_timeout": "5s", {protocol}
            "circuit_breakers": {{"thresholds": [{{"max_connections": 100000, "max_pending_requests": 100000,
              "max_requests": 100000}}]}},
            "load_assignment": {{"cluster_name": "backend", "endpoints": [{{"lb_endpoints": [
              {{"endpoint": {{"address": {backend}}}}}]}}]}}}}]}}}}"#,
        listen = envoy_address(address),
        backend = envoy_address(setup.backend),
    )
}

fn envoy_address(address: SocketAddr) -> String {
    format!(r#"{{"socket_address": {{"address": "{}", "port_value": {}}}}}"#, address.ip(), address.port())
}
