//! Owns reading what an operator wants changed: the JSON bodies of the admin endpoint's POSTs. Changes nothing.

use serde_json::Value;

use super::Change;

/// Why a body is no change: what is wrong with its form, or with a value.
#[derive(Debug, PartialEq, Eq)]
pub enum Wrong {
    Form(&'static str),
    Value(&'static str),
}

const CANARY_FORM: &str = "the body must be JSON such as {\"route\": \"models\", \"percent\": 25}";
const SERVICE_FORM: &str = "the body must be JSON such as {\"service\": \"models\", \"endpoint\": \"10.0.0.5:8000\", \"drained\": true} \
     or {\"service\": \"models\", \"breaker\": \"reset\"}";

/// `{"route", "percent"}`
pub fn canary(body: &[u8]) -> Result<Change, Wrong> {
    let body = object(body).ok_or(Wrong::Form(CANARY_FORM))?;
    let (Some(route), Some(percent)) = (text(&body, "route"), body["percent"].as_f64()) else {
        return Err(Wrong::Form(CANARY_FORM));
    };
    if !(0.0..=100.0).contains(&percent) {
        return Err(Wrong::Value("percent must be from 0 to 100"));
    }
    Ok(Change::Canary { route, millionths: (percent * 10_000.0).round() as u32 })
}

/// `{"service", "endpoint", "drained"}` or `{"service", "breaker": "reset"}`
pub fn service(body: &[u8]) -> Result<Change, Wrong> {
    let body = object(body).ok_or(Wrong::Form(SERVICE_FORM))?;
    let service = text(&body, "service").ok_or(Wrong::Form(SERVICE_FORM))?;
    match (text(&body, "endpoint"), body["drained"].as_bool(), text(&body, "breaker")) {
        (Some(endpoint), Some(is_drained), None) => Ok(Change::Drain { service, endpoint, is_drained }),
        (None, None, Some(word)) if word == "reset" => Ok(Change::ResetBreaker { service }),
        (None, None, Some(_)) => Err(Wrong::Value("breaker must be \"reset\"")),
        _ => Err(Wrong::Form(SERVICE_FORM)),
    }
}

fn object(body: &[u8]) -> Option<Value> {
    serde_json::from_slice::<Value>(body).ok().filter(Value::is_object)
}

fn text(body: &Value, key: &str) -> Option<String> {
    body[key].as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_says_what_and_of_what() {
        let drain = |is_drained| Change::Drain { service: "m".into(), endpoint: "e:1".into(), is_drained };
        for (body, change) in [
            (r#"{"service": "m", "endpoint": "e:1", "drained": true}"#, drain(true)),
            (r#"{"service": "m", "endpoint": "e:1", "drained": false}"#, drain(false)),
            (r#"{"service": "m", "breaker": "reset"}"#, Change::ResetBreaker { service: "m".into() }),
        ] {
            assert_eq!(service(body.as_bytes()), Ok(change));
        }
        let half = canary(br#"{"route": "r", "percent": 0.5}"#);
        assert_eq!(half, Ok(Change::Canary { route: "r".into(), millionths: 5_000 }));
    }

    #[test]
    fn what_is_none_is_told() {
        for body in [
            "",
            "[]",
            "1",
            r#"{"service": 1}"#,
            r#"{"service": "m"}"#,
            r#"{"service": "m", "endpoint": "e"}"#,
            r#"{"service": "m", "drained": true}"#,
            r#"{"service": "m", "endpoint": "e", "drained": "yes"}"#,
            r#"{"service": "m", "endpoint": "e", "drained": true, "breaker": "reset"}"#,
        ] {
            assert_eq!(service(body.as_bytes()), Err(Wrong::Form(SERVICE_FORM)), "{body}");
            assert_eq!(canary(body.as_bytes()), Err(Wrong::Form(CANARY_FORM)), "{body}");
        }
        assert!(matches!(service(br#"{"service": "m", "breaker": "open"}"#), Err(Wrong::Value(_))));
        assert!(matches!(canary(br#"{"route": "r", "percent": 100.1}"#), Err(Wrong::Value(_))));
    }
}
