//! One connection on which response after response of chunks is taken as fast as they come, until it is dropped. Counts
//! nothing: it is what others have to live beside.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread::{self, JoinHandle};

pub struct Stream {
    socket: TcpStream,
    taker: Option<JoinHandle<()>>,
}

impl Stream {
    pub fn start(address: SocketAddr) -> io::Result<Stream> {
        let socket = TcpStream::connect(address)?;
        let mut taken = socket.try_clone()?;
        let request = format!("GET /chunked/67108864 HTTP/1.1\r\nhost: {address}\r\n\r\n");
        // More are asked for than can be answered meanwhile; each waits its turn.
        (&socket).write_all(request.repeat(64).as_bytes())?;
        let taker = thread::spawn(move || {
            let mut buffer = vec![0; 256 << 10];
            while matches!(taken.read(&mut buffer), Ok(1..)) {}
        });
        Ok(Stream { socket, taker: Some(taker) })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Both);
        if let Some(taker) = self.taker.take() {
            let _ = taker.join();
        }
    }
}
