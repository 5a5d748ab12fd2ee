//! Owns the command line: what may be typed, what each command prints, and its exit code (0 done, 1 failed,
//! 2 wrong usage). The work is done by `control`, `config` and `proxy`.

mod convert;
mod demo;
mod explain;
mod key;
mod reload;
mod token;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::config::Registry;
use crate::control;

const USAGE: &str = "\
Tidegate, an edge gateway for model servers

usage: tidegate COMMAND

  run -c FILE                            serve by this configuration
  check -c FILE                          tell everything that is wrong with it, without serving
  explain -c FILE METHOD URL [-H 'Name: value']...
                                         tell which route a request takes, and why not the others
  reload -c FILE [--cert FILE --key FILE]
                                         have the running gateway reload, and tell its answer
  token -c FILE [--auth NAME] [CLAIM=VALUE]...
                                         sign a JSON Web Token that it believes, for trying
  key FILE [CLAIM=VALUE]... [expires=DATE] [day=REQUESTS] [month=REQUESTS]
                                         make an API key, put its hash into FILE, and print it
  convert -c FILE --service NAME --input FILE --output FILE.npy [--content-type TYPE] [--name INPUT]
                                         make of a file what the service's model would be asked, offline
  demo [--dir DIR] [--port PORT]         a gateway before embedded model servers, nothing to install
  version                                version and what this machine's driver is

signals to a running gateway:
  SIGHUP reload   SIGTERM, SIGQUIT drain   SIGINT stop   SIGUSR1 reopen logs
";

/// Runs the command that the arguments name.
pub fn main(arguments: &[String]) -> ExitCode {
    let Some((command, rest)) = arguments.split_first() else {
        eprint!("{USAGE}");
        return ExitCode::from(2);
    };
    match command.as_str() {
        "run" => with_config(rest, run),
        "check" => with_config(rest, check),
        "explain" => explain::explain(rest),
        "reload" => reload::reload(rest),
        "token" => token::token(rest),
        "key" => key::key(rest),
        "convert" => convert::convert(rest),
        "demo" => demo::command::demo(rest),
        "version" | "--version" | "-V" => version(rest),
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        // As nginx and HAProxy are started.
        "-c" | "--config" | "-f" => usage_error("what is to be done with it? `tidegate run -c FILE` serves"),
        "-t" => usage_error("`tidegate check -c FILE` tells what is wrong with it"),
        unknown => usage_error(&match nearest(unknown) {
            Some(known) => format!("unknown command `{unknown}`; did you mean `{known}`?"),
            None => format!("unknown command `{unknown}`"),
        }),
    }
}

fn run(file: &Path) -> ExitCode {
    match control::run(file, |summary| eprintln!("{summary}")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(control::Failure(message)) => {
            eprintln!("{}", message.trim_end());
            ExitCode::FAILURE
        }
    }
}

fn check(file: &Path) -> ExitCode {
    match control::read_config(file, &mut Registry::new()) {
        Ok((blueprint, warnings)) => {
            eprint!("{warnings}");
            if let Err(message) = control::check_quotas(&blueprint) {
                eprintln!("{message}");
                return ExitCode::FAILURE;
            }
            println!("{}: ok", file.display());
            ExitCode::SUCCESS
        }
        Err(diagnostics) => {
            eprintln!("{}", diagnostics.trim_end());
            ExitCode::FAILURE
        }
    }
}

fn version(rest: &[String]) -> ExitCode {
    if !rest.is_empty() {
        return usage_error("`version` takes no arguments");
    }
    println!("tidegate {}", env!("CARGO_PKG_VERSION"));
    match crate::runtime::driver::choose(crate::config::snapshot::DriverChoice::Auto) {
        Ok(chosen) => println!("driver {}", chosen.driver.word()),
        Err(error) => println!("driver none: {error}"),
    }
    ExitCode::SUCCESS
}

/// Runs a command whose only argument is `-c FILE`.
fn with_config(rest: &[String], command: impl FnOnce(&Path) -> ExitCode) -> ExitCode {
    match rest {
        [flag, file] if flag == "-c" || flag == "--config" => command(&PathBuf::from(file)),
        [] => usage_error("which configuration? add `-c FILE`"),
        [file] if !file.starts_with('-') => usage_error(&format!("a configuration is named by `-c {file}`")),
        _ => usage_error("expected `-c FILE` and nothing else"),
    }
}

fn usage_error(message: &str) -> ExitCode {
    eprintln!("tidegate: {message}\ntry `tidegate help`");
    ExitCode::from(2)
}

fn nearest(unknown: &str) -> Option<&'static str> {
    const COMMANDS: [&str; 10] =
        ["run", "check", "explain", "reload", "token", "key", "convert", "demo", "version", "help"];
    crate::config::suggest::nearest(unknown, COMMANDS)
}
