//! Owns which core does what: proxies have the first ones; backend and load share the rest, and none with them.

use std::fs;
use std::net::SocketAddr;

use super::Stopped;
use crate::peers;

/// First one thread of each physical core, then their siblings: neighbours would share one.
pub fn cores_apart(cores: Vec<usize>) -> Vec<usize> {
    let place = |core: &usize| {
        let file = format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
        let siblings = fs::read_to_string(file).unwrap_or_default();
        let numbers = siblings.trim().split([',', '-']).filter_map(|word| word.parse::<usize>().ok());
        numbers.filter(|sibling| sibling < core).count()
    };
    let mut cores = cores;
    cores.sort_by_key(place);
    cores
}

/// Which cores are whose.
pub struct Plan {
    pub proxy: Vec<usize>,
    pub backend: Vec<usize>,
    pub load: Vec<usize>,
}

impl Plan {
    pub fn new(cores: &[usize], workers: usize) -> Result<Self, String> {
        let (proxy, rest) = cores.split_at_checked(workers).unwrap_or((cores, &[]));
        let (backend, load) = match rest {
            [] => return Err(format!("{workers} workers need {} cores: one is the load's", workers + 1)),
            [one] => (vec![*one], vec![*one]),
            // A generator does a little more for a request than the backend does.
            _ => (rest[..rest.len() / 2].to_vec(), rest[rest.len() / 2..].to_vec()),
        };
        Ok(Self { proxy: proxy.to_vec(), backend, load })
    }

    pub fn all(&self) -> Vec<usize> {
        let mut all = [&self.proxy[..], &self.backend, &self.load].concat();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The HTTP/1.1 backend on its cores, and its address.
    pub fn start_backend(&self) -> Result<(Stopped, SocketAddr), String> {
        let threads = self.backend.len().to_string();
        let arguments = ["backend", "--listen", "127.0.0.1:0", "--threads", &threads];
        peers::start_own(&arguments, &self.backend)
            .map(|(child, address)| (Stopped(Some(child)), address))
            .map_err(|error| format!("backend: {error}"))
    }

    pub fn in_words(&self) -> String {
        let Self { proxy, backend, load } = self;
        match backend == load {
            true => format!("the proxy on core {}, backend and load on core {}", list(proxy), list(load)),
            false => format!(
                "proxies on cores {}, the backend on {}, the load on {}",
                list(proxy),
                list(backend),
                list(load)
            ),
        }
    }
}

fn list(cores: &[usize]) -> String {
    cores.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}
