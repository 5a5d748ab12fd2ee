//! Promise: a PROXY header from a load balancer that is trusted names the client, from nobody else, however it
//! arrives; and endpoints that want one are told the client, on connections that no other client uses.

mod harness;

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use harness::{Backend, Client, Conn, Gateway, backend, until};

/// Trusted in these tests; plain clients come from 127.0.0.1.
const BALANCER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const TRUSTED: &str = "proxy_protocol = { trusted = [\"127.0.0.2/32\"] }";

fn from_balancer(gateway: &Gateway) -> Client {
    let kind = socket2::Type::STREAM;
    let socket = socket2::Socket::new(socket2::Domain::IPV4, kind, None).expect("a socket");
    socket.bind(&SocketAddr::new(BALANCER, 0).into()).expect("the balancer's address");
    socket.connect(&gateway.web().into()).expect("it accepts");
    Client::over(TcpStream::from(socket)).expect("options are set")
}

/// A listener of this protocol; HTTP has a route for everything.
fn gateway(protocol: &str, listener: &str, top: &str, endpoint: SocketAddr, service: &str) -> Gateway {
    let (to, route) = match protocol {
        "tcp" => ("to = \"main\"", ""),
        _ => ("", "[[route]]\nto = \"main\"\n"),
    };
    let config = format!(
        "{top}\n[listen.web]\naddress = \"@web@\"\nprotocol = \"{protocol}\"\n{to}\n{listener}\n\
         [service.main]\nendpoints = [\"{endpoint}\"]\n{service}\n{route}"
    );
    Gateway::start(&config, &[])
}

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u16).to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[command, family], &length, body].concat()
}

/// 192.0.2.7:1234 to 198.51.100.1:443, with extensions behind.
fn v2_header() -> Vec<u8> {
    v2(0x21, 0x11, &[192, 0, 2, 7, 198, 51, 100, 1, 0x04, 0xd2, 0x01, 0xbb, 0xea, 0, 3, b'v', b'p', b'c'])
}

const V1_HEADER: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 1234 443\r\n";

fn headers() -> [Vec<u8>; 2] {
    [V1_HEADER.to_vec(), v2_header()]
}

fn echo() -> Backend {
    Backend::start(|conn| {
        while conn.wire.fill().is_ok_and(|more| more) {
            let got = std::mem::take(&mut conn.wire.buffer);
            if conn.write(&got).is_err() {
                return;
            }
        }
    })
}

/// The `client` of the last line of the access log, once there are so many.
fn logged_client(gateway: &Gateway, lines: usize) -> String {
    until("a log line", || gateway.access_log().len() == lines);
    gateway.access_log()[lines - 1]["client"].as_str().expect("a client").to_owned()
}

#[test]
fn a_trusted_header_names_the_client_of_requests() {
    let origin = Backend::describing("origin");
    let gateway = gateway("http", TRUSTED, "", origin.address, "");
    for (n, header) in headers().iter().enumerate() {
        let mut client = from_balancer(&gateway);
        client.send_all(header);
        for _ in 0..2 {
            let seen = client.get("/").expect("an answer").text();
            assert!(seen.contains("x-forwarded-for: 192.0.2.7\n"), "{seen}");
        }
        assert_eq!(logged_client(&gateway, 2 * n + 2), "192.0.2.7:1234");
    }
}

/// Header and request in one segment, and one byte at a time: the same.
#[test]
fn splits_make_no_difference() {
    let origin = Backend::describing("origin");
    let gateway = gateway("http", TRUSTED, "", origin.address, "");
    for header in headers() {
        let all = [&header[..], b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        for bytewise in [false, true] {
            let mut client = from_balancer(&gateway);
            if bytewise {
                client.send_bytewise(&all)
            } else {
                client.send_all(&all)
            }
            let seen = client.wire.read_response("GET").expect("an answer").text();
            assert!(seen.contains("x-forwarded-for: 192.0.2.7\n"), "{seen}");
        }
    }
}

#[test]
fn a_trusted_header_names_the_client_of_connections_and_its_bytes_are_not_passed_on() {
    let origin = echo();
    let gateway = gateway("tcp", TRUSTED, "", origin.address, "");
    for (n, header) in headers().iter().enumerate() {
        let mut client = from_balancer(&gateway);
        client.send_bytewise(header);
        client.send_all(b"hello");
        assert_eq!(client.wire.take(5).expect("an echo"), b"hello");
        client.half_close();
        client.closes_silently().expect("nothing but that");
        assert_eq!(logged_client(&gateway, n + 1), "192.0.2.7:1234");
    }
}

/// A load balancer's own checks: the connection's addresses hold.
#[test]
fn local_and_unknown_keep_the_connections_own_address() {
    let origin = Backend::describing("origin");
    let gateway = gateway("http", TRUSTED, "", origin.address, "");
    let headers = [
        v2(0x20, 0, &[]),
        v2(0x20, 0x11, &[1; 12]),
        v2(0x21, 0x31, &[0; 216]),
        b"PROXY UNKNOWN\r\n".to_vec(),
    ];
    for header in headers {
        let mut client = from_balancer(&gateway);
        client.send_all(&header);
        let seen = client.get("/").expect("an answer").text();
        assert!(seen.contains("x-forwarded-for: 127.0.0.2\n"), "{seen}");
    }
}

#[test]
fn others_are_served_without_and_their_header_is_not_believed() {
    let origin = Backend::describing("origin");
    let http = gateway("http", TRUSTED, "", origin.address, "");
    let seen = http.get("/").text();
    assert!(seen.contains("x-forwarded-for: 127.0.0.1\n"), "{seen}");
    for header in headers() {
        let mut client = http.client();
        client.send_all(&header);
        client.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.wire.read_response("GET").expect("an answer").status, 400);
    }
    assert_eq!(origin.requests(), 1);

    let origin = echo();
    let tcp = gateway("tcp", TRUSTED, "", origin.address, "");
    let mut client = tcp.client();
    client.send_all(V1_HEADER);
    assert_eq!(client.wire.take(V1_HEADER.len()).expect("bytes like others"), V1_HEADER);
}

#[test]
fn what_is_no_header_ends_a_trusted_peers_connection() {
    let long = [b'x'; 200];
    let garbage: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 198.51.100.1 1234\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 198.51.100.1 1234 99999\r\n".to_vec(),
        [b"PROXY UNKNOWN ", &long[..]].concat(),
        v2(0x21, 0x11, &[0; 11]),
        v2(0x31, 0x11, &[0; 12]),
        v2(0x21, 0x00, &[0; 5000]),
        b"\x16\x03\x01\x02".to_vec(),
    ];
    for protocol in ["http", "tcp"] {
        let origin = echo();
        let gateway = gateway(protocol, TRUSTED, "", origin.address, "");
        for bytes in &garbage {
            let mut client = from_balancer(&gateway);
            client.send_all(bytes);
            client
                .closes_silently()
                .unwrap_or_else(|said| panic!("{protocol}: {}: {said}", harness::show(bytes)));
        }
        gateway.until_metric(
            "tidegate_proxy_header_errors_total",
            &[("listener", "web")],
            garbage.len() as f64,
        );
        // A check that connects and leaves is no error.
        drop(from_balancer(&gateway));
        gateway.until_metric("tidegate_connections_active", &[], 0.0);
        let errors = gateway.metrics().sum("tidegate_proxy_header_errors_total", &[]);
        assert_eq!(errors, garbage.len() as f64);
        assert_eq!(origin.connections(), 0, "{protocol}: nothing reached the endpoint");
    }
}

#[test]
fn a_header_that_does_not_come_ends_the_connection_in_time() {
    for protocol in ["http", "tcp"] {
        let origin = echo();
        let gateway = gateway(protocol, TRUSTED, "[timeouts]\nheader = \"300ms\"\n", origin.address, "");
        let mut client = from_balancer(&gateway);
        client.send_all(&V1_HEADER[..20]);
        client.closes_silently().expect("it is ended");
        gateway.until_metric("tidegate_proxy_header_errors_total", &[], 1.0);
        assert_eq!(origin.connections(), 0);
    }
}

/// Hashing by client address sees the client, not the load balancer.
#[test]
fn balancing_by_client_sees_the_client() {
    let origins: Vec<Backend> = (0..4).map(|_| Backend::start(|conn| drop(conn.write(b"x")))).collect();
    let list: Vec<String> = origins.iter().map(|origin| format!("\"{}\"", origin.address)).collect();
    let config = format!(
        "[listen.web]\naddress = \"@web@\"\nprotocol = \"tcp\"\nto = \"main\"\n{TRUSTED}\n\
         [service.main]\nendpoints = [{}]\nbalance = \"hash\"\n",
        list.join(", ")
    );
    let gateway = Gateway::start(&config, &[]);
    let busy = || origins.iter().map(Backend::connections).collect::<Vec<_>>();
    let call = |last: u8| {
        let mut client = from_balancer(&gateway);
        client.send_all(format!("PROXY TCP4 192.0.2.{last} 198.51.100.1 1 2\r\n").as_bytes());
        assert_eq!(client.read_to_close().expect("an answer"), b"x");
        // Until then half of the connection is open, and counted.
        drop(client);
        // One that is still counted would leave too little room for the next.
        gateway.until_metric("tidegate_endpoint_in_flight", &[], 0.0);
    };
    (0..5).for_each(|_| call(7));
    assert_eq!(busy().iter().filter(|&&count| count > 0).count(), 1, "one client: {:?}", busy());
    (0..100).for_each(call);
    assert!(busy().iter().all(|&count| count > 5), "many clients: {:?}", busy());
}

/// The header that an endpoint got: who and where to, and what came behind it on the wire.
fn read_header(conn: &mut Conn) -> Option<(String, String)> {
    while conn.wire.buffer.is_empty() {
        if !conn.wire.fill().ok()? {
            return None;
        }
    }
    if conn.wire.buffer[0] == b'P' {
        while harness::wire::find(&conn.wire.buffer, b"\r\n").is_none() {
            conn.wire.fill().ok()?;
        }
        let end = harness::wire::find(&conn.wire.buffer, b"\r\n")?;
        let line = String::from_utf8(conn.wire.take(end + 2).ok()?).ok()?;
        let words: Vec<&str> = line.trim_end().split(' ').collect();
        let ["PROXY", "TCP4", from, to, from_port, to_port] = words[..] else { panic!("{line}") };
        return Some((format!("{from}:{from_port}"), format!("{to}:{to_port}")));
    }
    let fixed = conn.wire.take(16).ok()?;
    assert_eq!(fixed, v2(0x21, 0x11, &[0; 12])[..16], "version 2, PROXY, TCP over IPv4");
    let body = conn.wire.take(12).ok()?;
    let address = |ip: usize, port: usize| {
        let ip = Ipv4Addr::new(body[ip], body[ip + 1], body[ip + 2], body[ip + 3]);
        format!("{ip}:{}", u16::from_be_bytes([body[port], body[port + 1]]))
    };
    Some((address(0, 8), address(4, 10)))
}

#[test]
fn endpoints_of_connections_are_told_the_client() {
    for version in ["v1", "v2"] {
        let origin = Backend::start(|conn| {
            let Some((from, to)) = read_header(conn) else { return };
            let _ = conn.write(format!("{from} {to} ").as_bytes());
            let byte = conn.wire.take(1).unwrap_or_default();
            let _ = conn.write(&byte);
        });
        let gateway = gateway("tcp", TRUSTED, "", origin.address, &format!("proxy_protocol = \"{version}\""));
        let mut client = gateway.client();
        client.send_all(b"!");
        let own = client.raw().local_addr().expect("an address");
        assert_eq!(client.read_to_close().expect("it ends"), format!("{own} {} !", gateway.web()).as_bytes());
        // Through a load balancer: the client's address and the one that it called, not ours.
        let mut client = from_balancer(&gateway);
        client.send_all(&v2_header());
        client.send_all(b"!");
        assert_eq!(client.read_to_close().expect("it ends"), b"192.0.2.7:1234 198.51.100.1:443 !");
    }
}

/// The endpoint answers with the client that its connection began with, and the connection's number.
fn naming() -> Backend {
    Backend::start(|conn| {
        let Some((from, _)) = read_header(conn) else { return };
        while let Ok(request) = conn.read_request() {
            if request.target == "/last" {
                let _ = conn.write(&backend::answer("200 OK", "Connection: close\r\n", b"last"));
                return;
            }
            let _ = conn.write(&backend::ok(format!("{from} {}", conn.index).as_bytes()));
        }
    })
}

#[test]
fn endpoints_of_requests_are_told_the_client_on_connections_of_its_own() {
    for version in ["v1", "v2"] {
        let origin = naming();
        let gateway =
            gateway("http", "", "workers = 1\n", origin.address, &format!("proxy_protocol = \"{version}\""));
        let (mut one, mut other) = (gateway.client(), gateway.client());
        let ask = |client: &mut Client| {
            let address = client.raw().local_addr().expect("an address").to_string();
            let answer = client.get("/").expect("an answer").text();
            let (from, connection) = answer.split_once(' ').expect("two words");
            assert_eq!(from, address);
            connection.to_owned()
        };
        let firsts = (ask(&mut one), ask(&mut other));
        assert_ne!(firsts.0, firsts.1);
        for _ in 0..3 {
            assert_eq!((ask(&mut one), ask(&mut other)), firsts, "kept for its own client");
        }
        drop(one);
        until("the connection ends with its client", || origin.open_connections() == 1);
        let mut third = gateway.client();
        assert_ne!(ask(&mut third), firsts.0, "never another's");
        // A connection that the endpoint closed is replaced, with a header of its own.
        assert_eq!(other.get("/last").expect("an answer").text(), "last");
        assert_ne!(ask(&mut other), firsts.1);
        assert_eq!(gateway.metrics().sum("tidegate_upstream_idle_connections", &[]), 0.0, "none in the pool");
    }
}

/// The endpoint drops the kept connection between two requests: the next request meets no error.
#[test]
fn a_kept_connection_that_died_is_replaced_unseen() {
    let origin = naming();
    let gateway = gateway("http", "", "", origin.address, "proxy_protocol = \"v2\"");
    let mut client = gateway.client();
    for _ in 0..5 {
        assert_eq!(client.get("/").expect("an answer").status, 200);
        origin.cut(true);
    }
    assert_eq!(origin.connections(), 5);
}

/// A body that needs the whole path, and a tunnel: the header comes first on any connection.
#[test]
fn uploads_follow_the_header() {
    let origin = Backend::start(|conn| {
        let Some(_) = read_header(conn) else { return };
        conn.serve(&|request: &harness::Request, conn: &mut Conn| {
            let _ = conn.write(&backend::ok(request.body.len().to_string().as_bytes()));
        });
    });
    let gateway = gateway("http", "", "", origin.address, "proxy_protocol = \"v1\"");
    let mut client = gateway.client();
    for length in [10, 20_000, 3_000_000] {
        assert_eq!(client.post("/", &vec![b'x'; length]).expect("an answer").text(), length.to_string());
    }
}

/// Nothing but the header is sent before the client has said something.
#[test]
fn an_endpoint_that_speaks_first_is_heard_behind_its_header() {
    let origin = Backend::start(|conn| {
        let Some(_) = read_header(conn) else { return };
        let _ = conn.write(b"220 ready\r\n");
        conn.wait_end(Duration::from_secs(20));
    });
    let gateway = gateway("tcp", "", "", origin.address, "proxy_protocol = \"v2\"");
    let client = gateway.client();
    let mut greeting = [0; 11];
    client.raw().read_exact(&mut greeting).expect("a greeting");
    assert_eq!(&greeting, b"220 ready\r\n");
    drop(client);
    gateway.until_metric("tidegate_endpoint_in_flight", &[], 0.0);
}
