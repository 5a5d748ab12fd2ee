//! An image's head is judged alike however its bytes are cut, no judgement is taken back, and a head has sides.

use tidegate::inference::image_head::{Format, Scanner, Seen};

pub fn image(data: &[u8]) {
    let Some((&first, bytes)) = data.split_first() else { return };
    let format = [Format::Jpeg, Format::Png, Format::Webp][usize::from(first % 3)];
    let (mut whole, mut parts) = (Scanner::new(format), Scanner::new(format));
    let judged = whole.push(bytes);
    let size = usize::from(first / 3).max(1);
    let mut last = Ok(Seen::More);
    for piece in bytes.chunks(size) {
        let next = parts.push(piece);
        assert!(last == Ok(Seen::More) || last == next);
        last = next;
    }
    assert_eq!(last, judged);
    match judged {
        Ok(Seen::Head(head)) => assert!(head.width > 0 && head.height > 0 && whole.finish() == Ok(head)),
        Ok(Seen::More) => assert!(whole.finish().is_err()),
        Err(invalid) => assert_eq!(whole.finish(), Err(invalid)),
    }
}
