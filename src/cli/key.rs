//! Owns `tidegate key`: makes an API key, puts its hash into a file, and prints the key, which is nowhere else.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use crate::policy::api_key::{ApiKeys, create};
use crate::policy::quota::Quota;

pub fn key(arguments: &[String]) -> ExitCode {
    let Some((file, claims)) =
        arguments.split_first().filter(|(file, _)| !file.starts_with('-') && !file.contains('='))
    else {
        return crate::cli::usage_error(
            "`key` needs a file: tidegate key FILE sub=ann group=vip expires=2027-01-31",
        );
    };
    match make(Path::new(file), claims) {
        Ok(key) => {
            println!("{key}");
            eprintln!("it is shown only now; its hash is in {file}, which a reload reads again");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("tidegate: {message}");
            ExitCode::FAILURE
        }
    }
}

fn make(file: &Path, claims: &[String]) -> Result<String, String> {
    let mut random = [0; 38];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| "no random numbers are to be had")?;
    let (key, hash) = create(&random);
    if let Some(odd) = claims.iter().find(|claim| claim.contains(|c: char| c.is_whitespace() || c == '#')) {
        return Err(format!("`{odd}` has a space or a `#`, which a line of the file cannot have"));
    }
    let line = [std::slice::from_ref(&hash), claims].concat().join(" ");
    let failed = |error: io::Error| format!("{}: {error}", file.display());
    let before = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(failed(error)),
    };
    let separator = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
    // What cannot be read is not written.
    ApiKeys::read("x-api-key".into(), &format!("{before}{separator}{line}"), Quota::default())
        .map_err(|wrong| format!("{}, line {}: {}", file.display(), wrong.line, wrong.what))?;
    let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(file);
    opened.and_then(|mut opened| writeln!(opened, "{separator}{line}")).map_err(failed)?;
    Ok(key)
}
