//! HPACK: any block is decoded or refused and leaves the table within its size; fields that were decoded, encoded again and
//! decoded by another decoder, are the same.

use tidegate::http::h2::hpack::{Decoder, Encoder, FieldLine, Sink, TooLarge};

pub fn hpack(data: &[u8]) {
    let Some((&size, data)) = data.split_first() else { return };
    let mut decoder = Decoder::new(4096);
    let mut encoder = Encoder::new(usize::from(size) * 32);
    encoder.set_table_bytes_max(4096);
    let mut other = Decoder::new(4096);
    // Blocks of a connection, one after the other.
    for block in data.split(|&byte| byte == 0xfe) {
        let mut lines = Lines::default();
        let decoded = decoder.decode(block, &mut lines);
        assert!(decoder.table_bytes() <= 4096);
        lines.check();
        let Ok(Ok(())) = decoded else { return };
        let mut again = Vec::new();
        encoder.begin(&mut again);
        for line in &lines.fields {
            let (name, value) = (&lines.text[line.name.clone()], &lines.text[line.value.clone()]);
            match line.never_indexed {
                true => encoder.field_never_indexed(name, value, &mut again),
                false => encoder.field(name, value, &mut again),
            }
        }
        assert!(encoder.table_bytes() <= 4096);
        let mut same = Lines::default();
        assert_eq!(other.decode(&again, &mut same), Ok(Ok(())), "what we encode is a block");
        // Names are sent in lower case.
        assert_eq!(same.all().to_ascii_lowercase(), lines.all().to_ascii_lowercase());
    }
}

#[derive(Default)]
struct Lines {
    text: Vec<u8>,
    fields: Vec<FieldLine>,
}

impl Sink for Lines {
    fn text(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }

    fn field(&mut self, line: FieldLine) -> Result<(), TooLarge> {
        self.fields.push(line);
        if self.text.len() > 100_000 { Err(TooLarge) } else { Ok(()) }
    }
}

impl Lines {
    fn all(&self) -> Vec<u8> {
        let texts = self.fields.iter().flat_map(|line| [line.name.clone(), line.value.clone()]);
        texts.flat_map(|range| [&self.text[range], b"\0"].concat()).collect()
    }

    /// Lines stand end to end, as HTTP/1 has them.
    fn check(&self) {
        let mut end = 0;
        for line in &self.fields {
            assert_eq!(line.name.start, end);
            assert_eq!(&self.text[line.name.end..line.value.start], b": ");
            end = line.value.end + 2;
            assert_eq!(&self.text[line.value.end..end], b"\r\n");
        }
    }
}
