//! What is JSON is what another parser says is JSON, however it is cut; the member that is looked for is the one that the other parser finds
//! where it stands once; and an inference request that is believed to be one has inputs.

use std::sync::Arc;

use tidegate::inference::json_scan::{Peeked, Rules, Scanner};

pub fn json(data: &[u8]) {
    let Some((&cut, text)) = data.split_first() else { return };
    let rules = |is_inference| Rules { depth_max: 100, peek: Some(Arc::from("model")), is_inference };
    let (mut whole, mut parts) = (Scanner::new(rules(false)), Scanner::new(rules(false)));
    let judged = whole.push(text).and_then(|()| whole.finish());
    let pieces = text.chunks(usize::from(cut).max(1)).try_for_each(|piece| parts.push(piece));
    assert_eq!(pieces.and_then(|()| parts.finish()), judged);
    assert_eq!(whole.peeked(), parts.peeked());
    let other = serde_json::from_slice::<serde_json::Value>(text);
    match (&judged, &other) {
        (Ok(()), Ok(value)) => check_model(whole.peeked(), value),
        // Its numbers are bounded by what a float holds, ours only by their form.
        (Ok(()), Err(error)) => assert!(error.to_string().contains("number out of range"), "{error}"),
        (Err(invalid), Ok(_)) => assert!(invalid.to_string().contains("deep"), "{invalid}"),
        (Err(_), Err(_)) => {}
    }
    let mut inference = Scanner::new(rules(true));
    if inference.push(text).and_then(|()| inference.finish()).is_ok()
        && let Ok(value) = other
    {
        assert!(value["inputs"].as_array().is_some_and(|inputs| !inputs.is_empty()), "{value}");
    }
}

fn check_model(found: Peeked<'_>, value: &serde_json::Value) {
    match found {
        Peeked::Text(text) => assert_eq!(value["model"], text),
        Peeked::NotYet => panic!("all of it has been seen"),
        Peeked::Absent => assert!(value.get("model").is_none()),
        Peeked::NotText => assert!(!value["model"].is_string()),
        Peeked::TooLong => assert!(value["model"].as_str().is_some_and(|text| text.len() > 256)),
        // Another parser takes one of them.
        Peeked::Twice => assert!(value.get("model").is_some()),
    }
}
