//! Promise: a large body that goes past user space arrives byte for byte, whatever either side does: stalls,
//! resets, half-closes, trickles. What ends early is never passed off as whole, no connection ever sees bytes of
//! another, and neither pipes nor descriptors leak. Bodies are a function of their seed, so every byte is judged.

mod harness;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use harness::client::linger_zero;
use harness::{Backend, Client, Conn, Fault, Gateway, PATIENCE, Random, proof, until};

const SPLICE_FROM: usize = 64 * 1024;

/// Bytes `at..` of the body of `seed`; no period that a pipe or a buffer could hide a shift in.
fn body(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).collect();
    bytes.truncate(length);
    bytes
}

/// Writes in pieces of random size, now and then after a pause.
fn write_unevenly(mut to: &TcpStream, bytes: &[u8], random: &mut Random) -> std::io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let most = [97, 4_096, 70_000, 1_200_000][random.below(4) as usize];
        let count = rest.len().min(1 + random.below(most) as usize);
        to.write_all(&rest[..count])?;
        rest = &rest[count..];
        pause(random);
    }
    Ok(())
}

/// Reads everything up to `length` bytes or the end, as unevenly.
fn read_unevenly(mut from: &TcpStream, length: usize, random: &mut Random) -> Vec<u8> {
    let mut got = Vec::new();
    let mut piece = vec![0; 300_000];
    while got.len() < length {
        let most = piece.len().min(length - got.len());
        match from.read(&mut piece[..1 + random.below(most as u64) as usize]) {
            Ok(count @ 1..) => got.extend_from_slice(&piece[..count]),
            _ => break,
        }
        pause(random);
    }
    got
}

/// Lets the other side run into an empty or a full socket.
fn pause(random: &mut Random) {
    match random.below(24) {
        0 => thread::sleep(Duration::from_millis(random.below(8))),
        1..4 => thread::yield_now(),
        _ => {}
    }
}

/// The body in chunks of random size, most of them larger than what is spliced.
fn chunked(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Random(seed | 1);
    let (bytes, mut coded) = (body(seed, length), Vec::new());
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let most = [300, 100_000, 400_000, 2_000_000][random.below(4) as usize];
        let (chunk, behind) = rest.split_at(rest.len().min(1 + random.below(most) as usize));
        coded.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        coded.extend_from_slice(chunk);
        coded.extend_from_slice(b"\r\n");
        rest = behind;
    }
    coded.extend_from_slice(b"0\r\n\r\n");
    coded
}

/// What the backend does with a request `/ACTION/SEED/LENGTH`.
fn serve(conn: &mut Conn) {
    while !conn.last {
        let Ok(head) = conn.wire.read_head() else { return };
        let target = head.start.split(' ').nth(1).unwrap_or_default().to_owned();
        let parts: Vec<&str> = target.split('/').collect();
        let [_, action, seed, length] = parts[..] else { panic!("target {target}") };
        let (seed, length): (u64, usize) = (seed.parse().unwrap(), length.parse().unwrap());
        let mut random = Random(seed | 1);
        let Some(stream) = conn.stream().map(|stream| stream.try_clone().unwrap()) else { return };
        match action {
            "down" | "cut" | "reset" | "half" => {
                let bytes = body(seed, length);
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
                let sent = if action == "down" { length } else { random.below(length as u64) as usize };
                let _ = (&stream).write_all(head.as_bytes());
                let _ = write_unevenly(&stream, &bytes[..sent], &mut random);
                match action {
                    "down" => {}
                    "reset" => return conn.reset(),
                    "half" => {
                        // FIN behind a part of the body, the other direction still open.
                        let _ = stream.shutdown(Shutdown::Write);
                        conn.wait_end(PATIENCE);
                        return;
                    }
                    _ => return conn.close(),
                }
            }
            "chunks" | "cutchunks" => {
                let coded = chunked(seed, length);
                let sent =
                    if action == "chunks" { coded.len() } else { random.below(coded.len() as u64) as usize };
                let _ = (&stream).write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                let _ = write_unevenly(&stream, &coded[..sent], &mut random);
                if sent < coded.len() {
                    return conn.close();
                }
            }
            "upchunks" => {
                let Ok((got, _)) = conn.wire.read_chunked() else { return };
                let answer = if got == body(seed, length) { "same" } else { "different" };
                let _ = conn.write(&harness::backend::ok(format!("{answer} {}", got.len()).as_bytes()));
            }
            "up" => {
                let mut got = std::mem::take(&mut conn.wire.buffer);
                let rest = length - got.len();
                got.extend(read_unevenly(&stream, rest, &mut random));
                let answer = if got == body(seed, length) { "same" } else { "different" };
                let _ = conn.write(&harness::backend::ok(format!("{answer} {}", got.len()).as_bytes()));
                if got.len() < length {
                    return;
                }
            }
            // Takes a part of the upload, then goes without a word.
            "refuse" => {
                let part = random.below(length as u64) as usize;
                read_unevenly(&stream, part.saturating_sub(conn.wire.buffer.len()), &mut random);
                return conn.reset();
            }
            other => panic!("action {other}"),
        }
    }
}

fn gateway(origin: &Backend, splice: &str) -> Gateway {
    let top = format!("[splice]\n{splice}\n[limits]\nbody = \"off\"\n[timeouts]\nupstream_idle = \"20s\"\n");
    Gateway::before_with(&[origin.address], &top, "retry = { attempts = 1 }")
}

/// A length around what matters: the threshold, a pipe, several pipes.
fn length(random: &mut Random) -> usize {
    let near = [SPLICE_FROM, 2 * SPLICE_FROM, 1 << 20, 3 << 20][random.below(4) as usize];
    near - 200 + random.below(400) as usize
}

fn download(client: &mut Client, seed: u64, length: usize, random: &mut Random) {
    let request = format!("GET /down/{seed}/{length} HTTP/1.1\r\nHost: a\r\n\r\n");
    client.send_all(request.as_bytes());
    let head = client.wire.read_response_head("GET").unwrap_or_else(|fault| panic!("{fault:?}"));
    assert_eq!((head.status, head.get("content-length")), (200, Some(&*length.to_string())));
    let mut got = std::mem::take(&mut client.wire.buffer);
    let rest = length - got.len();
    got.extend(read_unevenly(client.raw(), rest, random));
    assert!(got == body(seed, length), "{length} bytes of body {seed} came back as {}", got.len());
}

fn upload(client: &mut Client, seed: u64, length: usize, random: &mut Random) {
    let head = format!("POST /up/{seed}/{length} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
    client.send_all(head.as_bytes());
    write_unevenly(client.raw(), &body(seed, length), random).expect("the gateway takes the body");
    let answer = client.wire.read_response("POST").unwrap_or_else(|fault| panic!("{fault:?}"));
    assert_eq!(answer.text(), format!("same {length}"));
}

fn download_chunks(client: &mut Client, seed: u64, length: usize) {
    client.send_all(format!("GET /chunks/{seed}/{length} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
    let answer = client.wire.read_response("GET").unwrap_or_else(|fault| panic!("{fault:?}"));
    assert!(
        answer.body == body(seed, length),
        "{length} bytes of body {seed} came back as {}",
        answer.body.len()
    );
}

/// An HTTP/1.0 client gets the payload alone, up to the end of the connection.
fn download_unchunked(gateway: &Gateway, seed: u64, length: usize) {
    let mut client = gateway.client();
    client.send_all(format!("GET /chunks/{seed}/{length} HTTP/1.0\r\nHost: a\r\n\r\n").as_bytes());
    let answer = client.wire.read_response("GET").unwrap_or_else(|fault| panic!("{fault:?}"));
    assert!(
        answer.body == body(seed, length),
        "{length} bytes of body {seed} came back as {}",
        answer.body.len()
    );
}

fn upload_chunks(client: &mut Client, seed: u64, length: usize, random: &mut Random) {
    let head =
        format!("POST /upchunks/{seed}/{length} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send_all(head.as_bytes());
    write_unevenly(client.raw(), &chunked(seed, length), random).expect("the gateway takes the body");
    let answer = client.wire.read_response("POST").unwrap_or_else(|fault| panic!("{fault:?}"));
    assert_eq!(answer.text(), format!("same {length}"));
}

/// A body that ends early must end the client's connection before its length is reached.
fn cut_short(gateway: &Gateway, action: &str, seed: u64, length: usize) {
    let mut client = gateway.client();
    client.send_all(format!("GET /{action}/{seed}/{length} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
    match client.wire.read_response("GET") {
        Ok(answer) => assert_eq!(answer.status, 502, "a part of {length} bytes passed for the whole"),
        Err(Fault::Reset | Fault::Truncated(_) | Fault::Closed) => {}
        Err(other) => panic!("{other:?}"),
    }
}

/// One client's life: transfers of all kinds, some broken by us, some by the origin.
fn live(gateway: &Gateway, seeds: &AtomicU64, rounds: u32, mut random: Random) {
    let mut client = gateway.client();
    for _ in 0..rounds {
        let (seed, length) = (seeds.fetch_add(1, Ordering::Relaxed), length(&mut random));
        match random.below(14) {
            0..4 => download(&mut client, seed, length, &mut random),
            4..7 => upload(&mut client, seed, length, &mut random),
            7..9 => download_chunks(&mut client, seed, length),
            9 => download_unchunked(gateway, seed, length),
            10 => upload_chunks(&mut client, seed, length, &mut random),
            11 => {
                let action = ["cut", "reset", "half", "cutchunks"][random.below(4) as usize];
                cut_short(gateway, action, seed, length);
            }
            12 => leave(gateway, seed, length, &mut random),
            _ => {
                let mut refused = gateway.client();
                let head = format!(
                    "POST /refuse/{seed}/{length} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"
                );
                refused.send_all(head.as_bytes());
                let _ = write_unevenly(refused.raw(), &body(seed, length), &mut random);
                let answer = refused.wire.read_response("POST");
                assert!(!answer.is_ok_and(|answer| answer.status < 500), "an upload without an answer");
            }
        }
    }
}

/// Goes away in the middle of a transfer in either direction, by FIN or by reset.
fn leave(gateway: &Gateway, seed: u64, length: usize, random: &mut Random) {
    let client = gateway.client();
    let mut stream = client.raw();
    if random.below(2) == 0 {
        let _ = stream.write_all(format!("GET /down/{seed}/{length} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        read_unevenly(stream, random.below(length as u64) as usize, random);
    } else {
        let head =
            format!("POST /up/{seed}/{length} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        let _ = stream.write_all(head.as_bytes());
        let part = random.below(length as u64) as usize;
        let _ = write_unevenly(stream, &body(seed, length)[..part], random);
    }
    if random.below(2) == 0 {
        linger_zero(stream);
    }
}

fn descriptors(gateway: &Gateway) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", gateway.pid())).expect("the process runs").count()
}

/// Waits until nothing is under way. Idle workers close unused pipes by and by; pooled connections to the origin are
/// no leak, so they go first.
fn quiet(gateway: &Gateway, origin: &Backend) {
    gateway.until_metric("tidegate_requests_active", &[], 0.0);
    gateway.until_metric("tidegate_endpoint_in_flight", &[], 0.0);
    origin.cut(false);
    gateway.until_metric("tidegate_upstream_idle_connections", &[], 0.0);
    gateway.until_metric("tidegate_pipes_open", &[], 0.0);
    gateway.until_metric("tidegate_connections_active", &[], 0.0);
}

/// Clients on both workers, `rounds` transfers each; then everything must be as before.
fn everything_arrives(splice: &str, rounds: u32) -> Gateway {
    let origin = Backend::start(serve);
    let gateway = gateway(&origin, splice);
    // Both workers are up and have descriptors of their own once enough connections were served.
    for _ in 0..16 {
        download(&mut gateway.client(), 1, 1000, &mut Random(7));
    }
    quiet(&gateway, &origin);
    let before = descriptors(&gateway);
    let seeds = Arc::new(AtomicU64::new(100));
    thread::scope(|scope| {
        for client in 1..=8 {
            let (gateway, seeds) = (&gateway, &seeds);
            scope.spawn(move || live(gateway, seeds, rounds, Random(client * 7919)));
        }
    });
    quiet(&gateway, &origin);
    until("descriptors are back", || descriptors(&gateway) <= before);
    gateway
}

#[test]
fn large_bodies_are_spliced_and_exact() {
    let gateway = everything_arrives("from = \"64KiB\"", if proof() { 400 } else { 12 });
    assert!(gateway.metrics().sum("tidegate_spliced_bytes_total", &[]) > (4 << 20) as f64);
}

#[test]
fn large_chunks_are_spliced_in_both_directions() {
    const LENGTH: usize = 3 << 20;
    let origin = Backend::serve(|request, conn| {
        if request.target == "/up" {
            let _ = conn.write(&harness::backend::ok(format!("{}", request.body.len()).as_bytes()));
            return;
        }
        let _ = conn.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let _ = conn.write(format!("{LENGTH:x}\r\n").as_bytes());
        let _ = conn.write(&body(5, LENGTH));
        let _ = conn.write(b"\r\n0\r\n\r\n");
    });
    let gateway = gateway(&origin, "from = \"64KiB\"");
    let mut client = gateway.client();
    assert!(client.get("/down").unwrap().body == body(5, LENGTH));
    let down = gateway.metrics().sum("tidegate_spliced_bytes_total", &[]);
    assert!(down > (LENGTH / 2) as f64, "{down} bytes of {LENGTH} were spliced");
    let mut upload = b"POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    upload.extend_from_slice(format!("{LENGTH:x}\r\n").as_bytes());
    upload.extend_from_slice(&body(6, LENGTH));
    upload.extend_from_slice(b"\r\n0\r\n\r\n");
    assert_eq!(client.request("POST", &upload).unwrap().text(), LENGTH.to_string());
    let up = gateway.metrics().sum("tidegate_spliced_bytes_total", &[]) - down;
    assert!(up > (LENGTH / 2) as f64, "{up} bytes of {LENGTH} were spliced");
}

#[test]
fn what_is_below_the_threshold_is_copied() {
    let origin = Backend::start(serve);
    let gateway = gateway(&origin, "from = \"64KiB\"");
    let mut client = gateway.client();
    let spliced = || gateway.metrics().sum("tidegate_spliced_bytes_total", &[]);
    for (seed, length) in (0..).zip([1, 1000, SPLICE_FROM / 2, SPLICE_FROM - 1]) {
        download(&mut client, seed, length, &mut Random(seed | 1));
        upload(&mut client, seed, length, &mut Random(seed | 1));
        assert_eq!(spliced(), 0.0, "of a body of {length} bytes");
    }
    // As much again as a buffer may have taken together with the head.
    download(&mut client, 9, 2 * SPLICE_FROM, &mut Random(9));
    assert!(spliced() > 0.0);
}

/// Two pipes for eight clients: most bodies are copied from some point on.
#[test]
fn bodies_are_exact_when_pipes_run_out() {
    let gateway = everything_arrives("from = \"64KiB\"\npipes = 2", if proof() { 100 } else { 6 });
    assert!(gateway.metrics().sum("tidegate_spliced_bytes_total", &[]) > 0.0);
}

#[test]
fn splicing_can_be_turned_off() {
    let gateway = everything_arrives("from = \"off\"", 2);
    assert_eq!(gateway.metrics().sum("tidegate_spliced_bytes_total", &[]), 0.0);
}

/// A client that reads nothing holds at most a pipe and its sockets' buffers, and is ended by the write timeout.
#[test]
fn a_stalled_reader_is_bounded_and_ended() {
    const LENGTH: usize = 64 << 20;
    let sent = Arc::new(AtomicU64::new(0));
    let count = sent.clone();
    let origin = Backend::serve(move |_, conn| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n");
        let _ = conn.write(head.as_bytes());
        let piece = vec![0; 1 << 16];
        while conn.write(&piece).is_ok() {
            count.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
        conn.last = true;
    });
    let top = "[splice]\nfrom = \"64KiB\"\n[timeouts]\nwrite = \"1s\"\n";
    let gateway = Gateway::before_with(&[origin.address], top, "");
    let mut client = gateway.client();
    client.small_receive_buffer();
    client.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    gateway.until_metric("tidegate_request_errors_total", &[("kind", "client_stalled")], 1.0);
    gateway.until_metric("tidegate_pipes_open", &[], 0.0);
    assert!(sent.load(Ordering::Relaxed) < (LENGTH / 2) as u64, "the origin was held back");
}
