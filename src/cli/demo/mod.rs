//! The model servers inside `tidegate demo`: small real ones, so that a stranger can try the gateway with
//! nothing installed. Each variant runs on a thread and a tokio runtime of its own, like a foreign process.
//! Not the gateway: nothing of the data plane is used here but the protocol's codec, and `cli` starts the gateway in front.

mod body;
mod classifier;
mod colors;
pub mod command;
mod model;
mod oip;
mod server;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};

use tokio::sync::oneshot;

pub use server::serve;

/// Which of the model servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// All four features.
    Stable,
    /// Petals only, and it tells how sure it is.
    V2,
    /// As the stable one, for few.
    Vip,
    /// Of images, by their color.
    Classifier,
}

impl Variant {
    /// As in the `x-model-server` header of every answer.
    pub fn name(self) -> &'static str {
        match self {
            Variant::Stable => "stable",
            Variant::V2 => "v2",
            Variant::Vip => "vip",
            Variant::Classifier => "classifier",
        }
    }

    /// The one model that it serves.
    pub fn model(self) -> &'static str {
        match self {
            Variant::Stable | Variant::V2 | Variant::Vip => oip::MODEL,
            Variant::Classifier => classifier::MODEL,
        }
    }

    pub fn model_version(self) -> &'static str {
        match self {
            Variant::Stable | Variant::Vip | Variant::Classifier => "1",
            Variant::V2 => "2",
        }
    }
}

/// Starts a model server on a thread of its own. It runs until the handle is dropped.
pub fn spawn(listener: TcpListener, variant: Variant) -> io::Result<ModelServer> {
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let thread = thread::Builder::new().name(format!("demo-{}", variant.name())).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                // Fails only before the first accept, on a listener that is no socket.
                _ = serve(listener, variant) => {}
                // The handle was dropped.
                _ = stopped => {}
            }
        });
    })?;
    Ok(ModelServer { address, stop: Some(stop), thread: Some(thread) })
}

/// A running model server. Dropping it closes its listener and connections, and waits for that.
#[derive(Debug)]
pub struct ModelServer {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ModelServer {
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
