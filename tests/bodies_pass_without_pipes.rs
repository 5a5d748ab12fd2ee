//! Promise: where the kernel grants no pipes, since this user's others have all that it allows, bodies and TCP streams
//! are copied and arrive whole. In a process of its own: for a user without privileges the pipes here are everybody's.

mod harness;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;

use rustix::pipe::{fcntl_setpipe_size, pipe};
use rustix::process::geteuid;

use harness::{Backend, Setup, backend};

const LENGTH: usize = 4 << 20;
const PIPE_BYTES: usize = 1 << 20;

fn bytes() -> Vec<u8> {
    (0..LENGTH as u32 / 4).flat_map(|number| number.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect()
}

/// Pipes that together are more than `fs.pipe-user-pages-soft` allows one user, or as many as this user gets.
fn all_pipes_in_use() -> Vec<OwnedFd> {
    let limit = std::fs::read_to_string("/proc/sys/fs/pipe-user-pages-soft").expect("procfs");
    let pages: usize = limit.trim().parse().expect("a number");
    let mut held = Vec::new();
    for _ in 0..=pages / (PIPE_BYTES / 4096) {
        let (read, write) = pipe().expect("a pipe");
        let granted = fcntl_setpipe_size(&write, PIPE_BYTES);
        held.extend([read, write]);
        if granted.is_err() {
            break;
        }
    }
    held
}

#[test]
fn everything_is_copied_where_the_kernel_refuses_pipes() {
    harness::process::raise_open_files();
    let _held = all_pipes_in_use();
    let http = Backend::serve(|request, conn| {
        let is_whole = request.body.is_empty() || request.body == bytes();
        let _ = conn.write(&if is_whole { backend::ok(&bytes()) } else { backend::ok(b"broken") });
    });
    let tcp = Backend::start(|conn| {
        let mut stream = conn.stream().expect("open").try_clone().expect("a clone");
        let mut got = vec![0; LENGTH];
        if stream.read_exact(&mut got).is_ok() {
            let _ = stream.write_all(&got);
        }
    });
    let config = "[listen.web]\naddress = \"@web@\"\n\
         [listen.raw]\naddress = \"@raw@\"\nprotocol = \"tcp\"\nto = \"raw\"\n\
         [service.main]\nendpoints = [\"@http@\"]\n[service.raw]\nendpoints = [\"@tcp@\"]\n[[route]]\nto = \"main\"\n";
    // Root may have as many pipes as it likes by these two capabilities.
    let without = "exec setpriv --bounding-set -sys_resource,-sys_admin \"$0\" run -c \"$1\"";
    let setup = if geteuid().is_root() { Setup::new().under(without) } else { Setup::new() };
    let gateway = setup.with("http", http.address).with("tcp", tcp.address).start(config);

    let mut client = gateway.client();
    assert!(client.get("/").expect("an answer").body == bytes());
    assert!(client.post("/", &bytes()).expect("an answer").body == bytes());
    let stream = harness::Client::connect(gateway.address("raw"));
    let mut got = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut out = stream.raw();
            out.write_all(&bytes()).expect("the gateway takes it");
            out.shutdown(Shutdown::Write).expect("a half-close");
        });
        stream.raw().read_to_end(&mut got).expect("a whole stream");
    });
    assert!(got == bytes());
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("tidegate_spliced_bytes_total", &[]), 0.0, "no pipe was to be had");
    assert_eq!(metrics.sum("tidegate_request_errors_total", &[]), 0.0);
    assert_eq!(metrics.sum("tidegate_tcp_errors_total", &[]), 0.0);
}
