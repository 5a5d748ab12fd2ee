//! The `tidegate` binary: arguments to a command, and the command's exit code. Nothing else lives here.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tidegate::runtime::memory::prepare();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    tidegate::cli::main(&arguments)
}
