//! Checks of path normalisation and templates: what routes see has one spelling, stays below the root, and
//! keeps nothing that could end a line.

use tidegate::proxy::path::{Normalised, normalise};
use tidegate::proxy::template::{Source, Template, TemplateValues};

/// Bytes before the first NUL are a path, those behind it the text of a template.
pub fn paths(data: &[u8]) {
    let mut parts = data.splitn(2, |&byte| byte == 0);
    let path = parts.next().unwrap_or_default();
    check_path(path);
    if let Some(Ok(text)) = parts.next().map(std::str::from_utf8) {
        check_template(text, path);
    }
}

fn check_path(path: &[u8]) {
    let mut normal = Vec::new();
    let normal = match normalise(path, &mut normal) {
        Normalised::Invalid => return,
        Normalised::Same => path.to_vec(),
        Normalised::Changed => normal,
    };
    let mut again = Vec::new();
    assert_eq!(normalise(&normal, &mut again), Normalised::Same, "normalising twice changes nothing");
    assert!(normal.starts_with(b"/") || normal == b"*");
    let climbs = |segment: &[u8]| segment == b".." || segment == b".";
    assert!(!normal.split(|&byte| byte == b'/').any(climbs), "no dot segment is left");
}

fn check_template(text: &str, value: &[u8]) {
    let Ok(template) = Template::parse(text) else { return };
    let mut out = Vec::new();
    template.render(&Everything(value), &mut out);
    let literal_has_line_end = text.contains(['\r', '\n']);
    assert!(
        literal_has_line_end || !out.contains(&b'\n') && !out.contains(&b'\r'),
        "a value cannot end a line"
    );
    let mut name = Vec::new();
    template.render_service_name(&Everything(value), &mut name);
    assert!(name.len() <= out.len(), "a service name is what the template says, or nothing");
}

/// A request in which every source has the same value.
struct Everything<'a>(&'a [u8]);

impl TemplateValues for Everything<'_> {
    fn write(&self, _: &Source, out: &mut Vec<u8>) -> bool {
        out.extend_from_slice(self.0);
        true
    }
}
