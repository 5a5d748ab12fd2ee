//! Owns `tidegate token`: signs a JSON Web Token that the configuration's own `[auth.NAME]` believes, for trying. Only where the
//! configuration has the secret; whoever has only public keys gets tokens from who has the private ones.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use crate::config::Registry;
use crate::control;
use crate::policy::identity::Auth;

const LASTS: Duration = Duration::from_secs(24 * 3600);

pub fn token(arguments: &[String]) -> ExitCode {
    let wanted = match Wanted::parse(arguments) {
        Ok(wanted) => wanted,
        Err(message) => return crate::cli::usage_error(&message),
    };
    match of_config(&wanted) {
        Ok(token) => {
            println!("{token}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("{}", message.trim_end());
            ExitCode::FAILURE
        }
    }
}

struct Wanted<'a> {
    file: &'a str,
    auth: Option<&'a str>,
    claims: Map<String, Value>,
}

impl<'a> Wanted<'a> {
    fn parse(arguments: &'a [String]) -> Result<Wanted<'a>, String> {
        let (mut file, mut auth, mut claims) = (None, None, Map::new());
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().map(String::as_str).ok_or(format!("`{argument}` needs a value"));
            match (argument.as_str(), argument.split_once('=')) {
                ("-c", _) => file = Some(value()?),
                ("--auth", _) => auth = Some(value()?),
                (_, Some((name, text))) if !name.is_empty() && !name.starts_with('-') => {
                    claims.insert(name.to_owned(), claim(text));
                }
                _ => return Err(format!("`token` knows -c, --auth and NAME=VALUE, not `{argument}`")),
            }
        }
        let file = file.ok_or("`token` needs a configuration: tidegate token -c FILE sub=ann")?;
        Ok(Wanted { file, auth, claims })
    }
}

/// JSON if it is a number, a boolean, a list or an object; else text.
fn claim(text: &str) -> Value {
    serde_json::from_str(text).ok().filter(|value: &Value| !value.is_null()).unwrap_or_else(|| text.into())
}

fn of_config(wanted: &Wanted<'_>) -> Result<String, String> {
    let (blueprint, _) = control::read_config(Path::new(wanted.file), &mut Registry::new())?;
    let auth = chosen(blueprint.auths(), wanted)?;
    signed(auth, wanted.claims.clone()).ok_or_else(|| {
        format!(
            "[auth.{}] has no secret: tokens are from who has the private key, API keys from `tidegate key`",
            auth.realm
        )
    })
}

fn chosen<'b>(auths: &'b [Auth], wanted: &Wanted<'_>) -> Result<&'b Auth, String> {
    let names = || auths.iter().map(|auth| format!("`{}`", auth.realm)).collect::<Vec<_>>().join(", ");
    match (wanted.auth, auths) {
        (_, []) => Err(format!("{} has no [auth.NAME]", wanted.file)),
        (None, [one]) => Ok(one),
        (None, _) => Err(format!("which one is it for? --auth takes one of {}", names())),
        (Some(name), _) => {
            let found = auths.iter().find(|auth| *auth.realm == *name);
            found.ok_or_else(|| format!("there is no `{name}`; --auth takes one of {}", names()))
        }
    }
}

/// With the audience and issuer that are asked for, for a day, unless the claims say otherwise. `None`: there is no secret.
pub fn signed(auth: &Auth, claims: Map<String, Value>) -> Option<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut whole = Map::new();
    let jwt = auth.jwt.as_ref()?;
    let first = |texts: &[Box<str>]| texts.first().map(|text| Value::from(&**text));
    whole.extend(first(&jwt.audiences).map(|audience| ("aud".to_owned(), audience)));
    whole.extend(first(&jwt.issuers).map(|issuer| ("iss".to_owned(), issuer)));
    whole.insert("exp".into(), (now + LASTS).as_secs().into());
    whole.extend(claims);
    jwt.sign(&Value::Object(whole))
}
