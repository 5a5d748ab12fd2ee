//! Owns the parts of a `multipart/form-data` body (RFC 7578, RFC 2046 §5.1), which is all there. Strict: what is not said clearly is no
//! form. Decodes nothing.

use bytes::Bytes;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub name: String,
    /// Without parameters; empty if it says none.
    pub content_type: Vec<u8>,
    pub body: Bytes,
}

/// Of one form.
const PARTS_MAX: usize = 256;
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// RFC 2046 §5.1.1.
const BOUNDARY_BYTES_MAX: usize = 70;

impl Part {
    pub fn is_image(&self) -> bool {
        self.content_type.get(..6).is_some_and(|begin| begin.eq_ignore_ascii_case(b"image/"))
    }
}

/// The parts in their order, each a slice of `body`. An error says what is wrong.
pub fn parts(content_type: &[u8], body: &Bytes) -> Result<Vec<Part>, &'static str> {
    let boundary = boundary(content_type)?;
    let delimiter = [b"\r\n--", boundary].concat();
    // What stands before the first delimiter is nobody's; it may be the first line.
    let mut rest = match body.strip_prefix(&delimiter[2..]) {
        Some(rest) => rest,
        None => behind(body, &delimiter).ok_or("the form's boundary does not stand in it")?.1,
    };
    let mut parts = Vec::new();
    loop {
        // RFC 2046 §5.1.1: spaces may follow a delimiter.
        let line = rest.trim_ascii_start_of_line();
        if line.starts_with(b"--") {
            return Ok(parts);
        }
        let part = line.strip_prefix(b"\r\n").ok_or("a line of the form's begins as its boundary does")?;
        let (part, after) = behind(part, &delimiter).ok_or("the form ends before its last boundary")?;
        if parts.len() == PARTS_MAX {
            return Err("the form has too many parts");
        }
        parts.push(read(body, part)?);
        rest = after;
    }
}

trait Line {
    fn trim_ascii_start_of_line(&self) -> &[u8];
}

impl Line for [u8] {
    /// Without spaces and tabs in front.
    fn trim_ascii_start_of_line(&self) -> &[u8] {
        let end = self.iter().position(|byte| !matches!(byte, b' ' | b'\t')).unwrap_or(self.len());
        &self[end..]
    }
}

/// What stands before `wanted`, and what behind it.
fn behind<'b>(bytes: &'b [u8], wanted: &[u8]) -> Option<(&'b [u8], &'b [u8])> {
    let at = memchr::memmem::find(bytes, wanted)?;
    Some((&bytes[..at], &bytes[at + wanted.len()..]))
}

fn boundary(content_type: &[u8]) -> Result<&[u8], &'static str> {
    let mut found = parameters(content_type).filter(|(name, _)| name.eq_ignore_ascii_case(b"boundary"));
    match (found.next(), found.next()) {
        (Some((_, boundary)), None) if (1..=BOUNDARY_BYTES_MAX).contains(&boundary.len()) => Ok(boundary),
        _ => Err("the form's content type says no boundary"),
    }
}

/// Those of a field, in quotes or not. A quoted one ends with the next quote, escaped or not: such names are nobody's.
fn parameters(field: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = field.iter().position(|&byte| byte == b';').map_or(&[][..], |at| &field[at + 1..]);
    std::iter::from_fn(move || {
        let at = rest.iter().position(|&byte| byte == b'=')?;
        let name = rest[..at].trim_ascii();
        let value = rest[at + 1..].trim_ascii_start();
        let (value, after) = match value.strip_prefix(b"\"") {
            Some(quoted) => {
                let end = quoted.iter().position(|&byte| byte == b'"')?;
                (&quoted[..end], &quoted[end + 1..])
            }
            None => {
                let end = value.iter().position(|&byte| byte == b';').unwrap_or(value.len());
                (value[..end].trim_ascii_end(), &value[end..])
            }
        };
        let next = after.iter().position(|&byte| byte == b';').map_or(after.len(), |at| at + 1);
        rest = &after[next..];
        Some((name, value))
    })
}

fn read(form: &Bytes, part: &[u8]) -> Result<Part, &'static str> {
    // A part without a head has no name.
    let (head, body) = behind(part, b"\r\n\r\n").ok_or("a part of the form has no head")?;
    if head.len() > HEAD_BYTES_MAX {
        return Err("a part of the form has a head that is too long");
    }
    let (mut name, mut content_type) = (None, Vec::new());
    for line in head.split(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let at =
            line.iter().position(|&byte| byte == b':').ok_or("a part's head has a line that is no field")?;
        let (field, value) = (line[..at].trim_ascii(), line[at + 1..].trim_ascii());
        if field.eq_ignore_ascii_case(b"content-disposition") {
            let mut names = parameters(value).filter(|(known, _)| known.eq_ignore_ascii_case(b"name"));
            if name.is_some() {
                return Err("a part of the form has two names");
            }
            name = names.next().map(|(_, name)| name);
            if names.next().is_some() {
                return Err("a part of the form has two names");
            }
        } else if field.eq_ignore_ascii_case(b"content-type") {
            content_type = value.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii().to_vec();
        } else if field.eq_ignore_ascii_case(b"content-transfer-encoding")
            && ![&b"binary"[..], b"8bit", b"7bit"].iter().any(|known| value.eq_ignore_ascii_case(known))
        {
            return Err("a part of the form is encoded, which is not supported");
        }
    }
    let name =
        name.and_then(|name| std::str::from_utf8(name).ok()).ok_or("a part of the form has no name")?;
    Ok(Part { name: name.to_owned(), content_type, body: form.slice_ref(body) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &str) -> Result<Vec<(String, String, String)>, &'static str> {
        let body = Bytes::from(text.replace('\n', "\r\n"));
        let parts = parts(b"multipart/form-data; boundary=xx", &body)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(parts.iter().map(|part| (part.name.clone(), text(&part.content_type), text(&part.body))).collect())
    }

    #[test]
    fn parts_have_names_types_and_bytes() {
        let text = "nobody's\n--xx\nContent-Disposition: form-data; name=\"a\"; filename=\"f;name=b.png\"\nContent-Type: image/png; q=1\n\n\n--x\n--x x\n--xx  \ncontent-disposition: form-data; name=b\n\n\n--xx--\nnobody's";
        let expected = [("a", "image/png", "\r\n--x\r\n--x x"), ("b", "", "")];
        let expected = expected.map(|(name, kind, body)| (name.to_owned(), kind.to_owned(), body.to_owned()));
        assert_eq!(form(text).unwrap(), expected);
        assert_eq!(form("--xx--").unwrap(), []);
    }

    #[test]
    fn what_is_not_said_clearly_is_no_form() {
        let head = "Content-Disposition: form-data; name=a\n";
        for wrong in [
            String::new(),
            "--x--".into(),
            format!("--xx\n{head}\n1"),
            format!("--xx\n{head}\n1\n--xxx\n{head}\n2\n--xx--"),
            format!("--xx\n{head}1\n--xx--"),
            "--xx\nContent-Disposition: form-data\n\n1\n--xx--".into(),
            format!("--xx\n{head}{head}\n1\n--xx--"),
            "--xx\nContent-Disposition: form-data; name=a; name=b\n\n1\n--xx--".into(),
            format!("--xx\n{head}Content-Transfer-Encoding: base64\n\n1\n--xx--"),
            format!("--xx\n{head}nothing\n\n1\n--xx--"),
            format!("--xx\n{head}X: {}\n\n1\n--xx--", "a".repeat(HEAD_BYTES_MAX)),
            format!("{}--xx--", format!("--xx\n{head}\n1\n").repeat(PARTS_MAX + 1)),
        ] {
            assert!(form(&wrong).is_err(), "{wrong:?}");
        }
        for wrong in ["multipart/form-data", "multipart/form-data; boundary=", "a; boundary=x; boundary=x"] {
            assert!(parts(wrong.as_bytes(), &Bytes::from_static(b"--x--")).is_err(), "{wrong}");
        }
        let quoted =
            parts(b"multipart/form-data; charset=x; boundary=\"a b\"", &Bytes::from_static(b"--a b--"));
        assert_eq!(quoted, Ok(Vec::new()));
    }
}
