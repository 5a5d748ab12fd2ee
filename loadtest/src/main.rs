//! `loadtest`: what a proxy costs, measured beside other proxies in interleaved rounds.
//! This file only picks the subcommand; `backend`, `forwarder`, `bench` and `scale` each live in their module.

mod args;
mod backend;
mod bench;
mod client;
mod forwarder;
mod histogram;
mod http2;
mod peers;
mod sys;

use std::net::SocketAddr;
use std::process::ExitCode;

use args::Args;

const USAGE: &str = "\
loadtest backend   --listen 127.0.0.1:PORT [--threads 1]
loadtest http2-backend --listen 127.0.0.1:PORT
loadtest forwarder --listen ADDRESS --to ADDRESS [--splice]
loadtest bench     [--cases LIST] [--peers LIST] [--rounds 3] [--seconds 3] [--load-cores 1]
                   [--access-log]
                   [--write docs/benchmarks.md] [--json FILE] [--allow-noisy] [--tidegate FILE]
loadtest scale     [--workers 1,2,4] [--peers LIST] [--rounds 3] [--seconds 3] [--tidegate FILE]
Port 0 picks a free one; the backends and `forwarder` print the address that they listen on.
See loadtest/README.md for the cases and peers.";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) =
        words.split_first().map_or(("", &words[..]), |(first, rest)| (first.as_str(), rest));
    let result = match command {
        "backend" => run_backend(rest),
        "http2-backend" => run_http2_backend(rest),
        "forwarder" => run_forwarder(rest),
        "bench" => bench::main(rest),
        "scale" => bench::scale::main(rest),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(())
        }
        _ => Err(format!("what to run?\n{USAGE}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("loadtest: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run_backend(words: &[String]) -> Result<(), String> {
    let args = Args::parse(words, &["listen", "threads"], &[])?;
    let listen: SocketAddr = args.required("listen")?;
    let threads = args.get("threads")?.unwrap_or(1);
    backend::serve(listen, threads).map_err(|error| format!("backend on {listen}: {error}"))
}

fn run_http2_backend(words: &[String]) -> Result<(), String> {
    let args = Args::parse(words, &["listen"], &[])?;
    let listen: SocketAddr = args.required("listen")?;
    backend::http2::serve(listen).map_err(|error| format!("backend on {listen}: {error}"))
}

fn run_forwarder(words: &[String]) -> Result<(), String> {
    let args = Args::parse(words, &["listen", "to"], &["splice"])?;
    let listen: SocketAddr = args.required("listen")?;
    let to: SocketAddr = args.required("to")?;
    forwarder::serve(listen, to, args.has("splice"))
        .map_err(|error| format!("forwarder on {listen}: {error}"))
}
