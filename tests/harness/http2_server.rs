//! Owns an endpoint that speaks HTTP/2: the `h2` crate's server, which knows the rules, with a closure for the answers. Shares
//! no code with the gateway. For answers that break the rules see `Raw::answering`.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Builder, SendResponse};
use http::{HeaderMap, Request, Response};
use tokio::net::TcpListener;
use tokio::sync::broadcast;

pub struct Http2Backend {
    pub address: SocketAddr,
    counts: Arc<Counts>,
    orders: broadcast::Sender<Order>,
}

#[derive(Default)]
struct Counts {
    connections: AtomicUsize,
    open: AtomicUsize,
    requests: AtomicUsize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    GoAway,
    Cut,
    Stop,
}

impl Http2Backend {
    pub fn serve<F>(
        answer: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Send + Sync + 'static,
    ) -> Http2Backend
    where
        F: Future<Output = Result<(), h2::Error>> + Send + 'static,
    {
        Http2Backend::with("127.0.0.1:0".parse().unwrap(), &Builder::new(), answer)
    }

    pub fn with<F>(
        address: SocketAddr,
        builder: &Builder,
        answer: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Send + Sync + 'static,
    ) -> Http2Backend
    where
        F: Future<Output = Result<(), h2::Error>> + Send + 'static,
    {
        let listener = super::eventually("the port is free", || std::net::TcpListener::bind(address).ok());
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (counts, (orders, _)) = (Arc::<Counts>::default(), broadcast::channel(16));
        let (counted, ordered, builder) = (counts.clone(), orders.clone(), builder.clone());
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(accept(listener, builder, answer, counted, ordered));
        });
        Http2Backend { address, counts, orders }
    }

    /// Answers with the request's body.
    pub fn echo() -> Http2Backend {
        Http2Backend::serve(echo)
    }

    pub fn connections(&self) -> usize {
        self.counts.connections.load(SeqCst)
    }

    pub fn open_connections(&self) -> usize {
        self.counts.open.load(SeqCst)
    }

    pub fn requests(&self) -> usize {
        self.counts.requests.load(SeqCst)
    }

    /// Ends all connections with a GOAWAY, once what is under way on them is answered.
    pub fn go_away(&self) {
        let _ = self.orders.send(Order::GoAway);
    }

    /// Ends all connections at once.
    pub fn cut(&self) {
        let _ = self.orders.send(Order::Cut);
    }
}

impl Drop for Http2Backend {
    fn drop(&mut self) {
        let _ = self.orders.send(Order::Stop);
    }
}

async fn accept<F>(
    listener: std::net::TcpListener,
    builder: Builder,
    answer: Arc<impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Send + Sync + 'static>,
    counts: Arc<Counts>,
    orders: broadcast::Sender<Order>,
) where
    F: Future<Output = Result<(), h2::Error>> + Send + 'static,
{
    let listener = TcpListener::from_std(listener).unwrap();
    let mut ordered = orders.subscribe();
    loop {
        let stream = tokio::select! {
            order = ordered.recv() => match order {
                Ok(Order::Stop) | Err(_) => return,
                Ok(_) => continue,
            },
            accepted = listener.accept() => accepted.unwrap().0,
        };
        stream.set_nodelay(true).unwrap();
        counts.connections.fetch_add(1, SeqCst);
        counts.open.fetch_add(1, SeqCst);
        let (builder, answer, counts, orders) =
            (builder.clone(), answer.clone(), counts.clone(), orders.subscribe());
        tokio::spawn(async move {
            serve(stream, builder, answer, &counts, orders).await;
            counts.open.fetch_sub(1, SeqCst);
        });
    }
}

async fn serve<F>(
    stream: tokio::net::TcpStream,
    builder: Builder,
    answer: Arc<impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Send + Sync + 'static>,
    counts: &Counts,
    mut orders: broadcast::Receiver<Order>,
) where
    F: Future<Output = Result<(), h2::Error>> + Send + 'static,
{
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Ok(Order::GoAway) => connection.graceful_shutdown(),
                Ok(Order::Cut | Order::Stop) | Err(_) => return,
            },
            asked = connection.accept() => match asked {
                Some(Ok((request, respond))) => {
                    counts.requests.fetch_add(1, SeqCst);
                    let answered = answer(request, respond);
                    tokio::spawn(async move { drop(answered.await) });
                }
                _ => return,
            },
        }
    }
}

/// What came of a request's body, its end included.
pub async fn body_of(body: &mut RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut all = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        all.extend_from_slice(&piece);
        body.flow_control().release_capacity(piece.len())?;
    }
    Ok((all, body.trailers().await?))
}

/// A whole answer.
pub fn answer(mut respond: SendResponse<Bytes>, head: Response<()>, body: &[u8]) -> Result<(), h2::Error> {
    let mut stream = respond.send_response(head, body.is_empty())?;
    if !body.is_empty() {
        stream.send_data(Bytes::copy_from_slice(body), true)?;
    }
    Ok(())
}

/// Answers with the request's body and trailers, as they come.
pub async fn echo(request: Request<RecvStream>, respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
    echo_with(request, respond, Response::new(()), None).await
}

/// The same as a gRPC call that ends well.
pub async fn echo_call(request: Request<RecvStream>, respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
    echo_with(request, respond, head, Some(trailers)).await
}

async fn echo_with(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    head: Response<()>,
    trailers: Option<HeaderMap>,
) -> Result<(), h2::Error> {
    let mut body = request.into_body();
    let is_empty = body.is_end_stream() && trailers.is_none();
    let mut stream = respond.send_response(head, is_empty)?;
    if is_empty {
        return Ok(());
    }
    while let Some(piece) = body.data().await {
        let mut piece = piece?;
        let count = piece.len();
        while !piece.is_empty() {
            stream.reserve_capacity(piece.len());
            let room = std::future::poll_fn(|context| stream.poll_capacity(context)).await;
            let Some(room) = room else { return Ok(()) };
            stream.send_data(piece.split_to(room?.min(piece.len())), false)?;
        }
        body.flow_control().release_capacity(count)?;
    }
    match body.trailers().await?.or(trailers) {
        Some(trailers) => stream.send_trailers(trailers),
        None => stream.send_data(Bytes::new(), true),
    }
}
