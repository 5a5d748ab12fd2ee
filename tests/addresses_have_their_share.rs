//! `per_address` of a listener: of one address there are never more connections than it may have, nor new ones faster; whoever is
//! over it is reset, others are served, and behind a load balancer it is the address that the PROXY header names.

mod harness;

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};

use harness::gateway::Reload;
use harness::{Backend, Client, Gateway, until};

fn config(protocol: &str, listener: &str) -> String {
    let (to, route) = match protocol {
        "tcp" => ("to = \"main\"", ""),
        _ => ("", "[[route]]\nto = \"main\"\n"),
    };
    format!(
        "workers = 2\n[admin]\naddress = \"@admin@\"\n[listen.web]\naddress = \"@web@\"\nprotocol = \"{protocol}\"\n{to}\n{listener}\n\
         [service.main]\nendpoints = [\"@main@\"]\n{route}"
    )
}

fn connect(gateway: &Gateway, from: u8) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let address = IpAddr::V4(Ipv4Addr::new(127, 0, 0, from));
    socket.bind(&SocketAddr::new(address, 0).into()).unwrap();
    socket.connect(&gateway.web().into()).unwrap();
    socket.into()
}

/// A client that has been served, or was reset.
fn served(gateway: &Gateway, from: u8) -> Option<Client> {
    let mut client = Client::over(connect(gateway, from)).unwrap();
    let answer = client.get("/");
    answer.is_ok_and(|answer| answer.status == 200).then_some(client)
}

fn over_limit(gateway: &Gateway) -> f64 {
    gateway.metrics().sum("tidegate_connections_over_address_limit_total", &[("listener", "web")])
}

fn active(gateway: &Gateway) -> f64 {
    gateway.metrics().sum("tidegate_connections_active", &[("listener", "web")])
}

#[test]
fn an_address_has_so_many_connections_at_once() {
    let origin = Backend::fixed("here");
    let config = config("http", "per_address = { connections = 3 }");
    let mut gateway = Gateway::start(&config, &[("main", origin.address)]);
    let mut held: Vec<Client> = (0..3).map(|_| served(&gateway, 2).expect("it may have three")).collect();
    for _ in 0..5 {
        assert!(served(&gateway, 2).is_none());
    }
    assert_eq!(over_limit(&gateway), 5.0);
    assert!(served(&gateway, 3).is_some(), "another address is served");
    // Those that are there go on, and what leaves makes room.
    assert!(held.iter_mut().all(|client| client.get("/").unwrap().status == 200));
    held.pop();
    until("it has gone", || active(&gateway) == 2.0);
    held.push(served(&gateway, 2).expect("there is room again"));
    // A reload keeps the count.
    let reloaded =
        config.replace("connections = 3", "connections = 4").replace("@main@", &origin.address.to_string());
    assert_eq!(gateway.reload(&reloaded), Reload::Taken);
    held.push(served(&gateway, 2).expect("one more"));
    assert!(served(&gateway, 2).is_none());
    held.clear();
    until("all have gone", || active(&gateway) == 0.0);
    assert!((0..4).map(|_| served(&gateway, 2)).collect::<Option<Vec<_>>>().is_some());
}

#[test]
fn new_connections_come_no_faster_than_they_may() {
    let origin = Backend::fixed("here");
    let config = config("http", "per_address = { rate = \"2/d\", burst = 6 }");
    let gateway = Gateway::start(&config, &[("main", origin.address)]);
    let count = (0..10).filter(|_| served(&gateway, 2).is_some()).count();
    assert_eq!((count, over_limit(&gateway)), (6, 4.0));
    assert!(served(&gateway, 3).is_some());
}

/// Whoever is over the limit is told by a reset, whatever it has sent; TCP listeners are held to it as well.
#[test]
fn who_is_over_it_is_reset() {
    let origin = Backend::start(|connection| connection.wait_stop());
    let gateway =
        Gateway::start(&config("tcp", "per_address = { connections = 1 }"), &[("main", origin.address)]);
    let _held = connect(&gateway, 2);
    until("it is served", || origin.connections() == 1);
    let mut late = connect(&gateway, 2);
    let _ = late.write_all(b"hello");
    let ended = late.read(&mut [0; 1]);
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(origin.connections(), 1);
}

/// A load balancer has as many connections as it likes, whom it speaks for has not.
#[test]
fn behind_a_load_balancer_it_is_whom_it_speaks_for() {
    let listener = "proxy_protocol = { trusted = [\"127.0.0.2/32\"] }\nper_address = { connections = 2 }";
    let origin = Backend::fixed("here");
    let http = Gateway::start(&config("http", listener), &[("main", origin.address)]);
    let through = |client: &str| {
        let mut stream = Client::over(connect(&http, 2)).unwrap();
        stream.send_all(format!("PROXY TCP4 {client} 198.51.100.1 1234 443\r\n").as_bytes());
        stream.get("/").is_ok_and(|answer| answer.status == 200).then_some(stream)
    };
    let held: Vec<_> = ["192.0.2.7", "192.0.2.7", "192.0.2.8", "192.0.2.8"].map(through).into();
    assert!(held.iter().all(Option::is_some));
    assert!(through("192.0.2.7").is_none());
    assert!(through("192.0.2.9").is_some());
    assert_eq!(over_limit(&http), 1.0);
    // It asks for itself as often as it likes, as health checks do.
    let mut own = Vec::new();
    for _ in 0..4 {
        let mut stream = Client::over(connect(&http, 2)).unwrap();
        stream.send_all(b"PROXY UNKNOWN\r\n");
        assert_eq!(stream.get("/").unwrap().status, 200);
        own.push(stream);
    }
    assert_eq!(over_limit(&http), 1.0);
    drop((held, own));
    until("all have gone", || active(&http) == 0.0);
    assert!(through("192.0.2.7").is_some());

    let origin = Backend::start(|connection| connection.wait_stop());
    let tcp = Gateway::start(&config("tcp", listener), &[("main", origin.address)]);
    let through = || {
        let mut stream = connect(&tcp, 2);
        stream.write_all(b"PROXY TCP4 192.0.2.7 198.51.100.1 1234 443\r\nhello").unwrap();
        stream
    };
    let held = [through(), through()];
    until("both are served", || origin.connections() == 2);
    let ended = through().read(&mut [0; 1]);
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
    // Not an end that the endpoint would have to answer with its own.
    held.iter().for_each(harness::client::linger_zero);
    drop(held);
    until("they have gone", || active(&tcp) == 0.0);
    let _again = through();
    until("there is room again", || origin.connections() == 3);
}
