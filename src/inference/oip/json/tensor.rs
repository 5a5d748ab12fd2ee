//! Owns how arrays become the bytes of a tensor: flat, or nested as the shape is. Each element is read where it stands, once.

use std::marker::PhantomData;

use super::super::data::{Budget, PREFIX_BYTES};
use super::super::refused::Refused;
use super::cursor::Cursor;
use super::number::Number;
use crate::inference::tensor::Datatype;

/// The array that is next, as the data of such a tensor.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    datatype: Datatype,
    shape: &[u64],
    budget: &mut Budget<'_>,
) -> Result<Vec<u8>, Refused> {
    match datatype {
        Datatype::Bool => Reader::<Boolean>::new(cursor, shape, budget)?.read(Some(1)),
        Datatype::Uint8 => Reader::<u8>::new(cursor, shape, budget)?.read(Some(1)),
        Datatype::Uint16 => Reader::<u16>::new(cursor, shape, budget)?.read(Some(2)),
        Datatype::Uint32 => Reader::<u32>::new(cursor, shape, budget)?.read(Some(4)),
        Datatype::Uint64 => Reader::<u64>::new(cursor, shape, budget)?.read(Some(8)),
        Datatype::Int8 => Reader::<i8>::new(cursor, shape, budget)?.read(Some(1)),
        Datatype::Int16 => Reader::<i16>::new(cursor, shape, budget)?.read(Some(2)),
        Datatype::Int32 => Reader::<i32>::new(cursor, shape, budget)?.read(Some(4)),
        Datatype::Int64 => Reader::<i64>::new(cursor, shape, budget)?.read(Some(8)),
        Datatype::Fp32 => Reader::<f32>::new(cursor, shape, budget)?.read(Some(4)),
        Datatype::Fp64 => Reader::<f64>::new(cursor, shape, budget)?.read(Some(8)),
        Datatype::Bytes => Reader::<Text>::new(cursor, shape, budget)?.read(None),
        Datatype::Fp16 | Datatype::Bf16 => {
            let name = datatype.name();
            Err(Refused::invalid(format!(
                "is {name}, which JSON has no numbers for: it comes in binary only"
            )))
        }
    }
}

/// How elements of one datatype are taken.
trait Element {
    /// Appends the one that begins there: where it ends. `None`: there is none, and `fault` says why.
    fn take(cursor: &Cursor<'_>, at: usize, data: &mut Vec<u8>) -> Option<usize>;
    fn fault(cursor: &mut Cursor<'_>) -> Refused;
}

impl<T: Number> Element for T {
    #[inline(always)]
    fn take(cursor: &Cursor<'_>, at: usize, data: &mut Vec<u8>) -> Option<usize> {
        let (number, end) = T::scan(cursor.text, at)?;
        number.put(data);
        Some(end)
    }

    fn fault(cursor: &mut Cursor<'_>) -> Refused {
        <T as Number>::fault(cursor)
    }
}

struct Boolean;

impl Element for Boolean {
    fn take(cursor: &Cursor<'_>, at: usize, data: &mut Vec<u8>) -> Option<usize> {
        let mut cursor = cursor.again_from(at);
        data.push(cursor.boolean().ok()?.into());
        Some(cursor.at)
    }

    fn fault(cursor: &mut Cursor<'_>) -> Refused {
        cursor.wrong("neither true nor false")
    }
}

struct Text;

impl Element for Text {
    /// Its length goes before it, once that is known.
    fn take(cursor: &Cursor<'_>, at: usize, data: &mut Vec<u8>) -> Option<usize> {
        let (mut cursor, start) = (cursor.again_from(at), data.len());
        data.extend_from_slice(&[0; PREFIX_BYTES]);
        cursor.string_into(data).ok()?;
        let length = u32::try_from(data.len() - start - PREFIX_BYTES).ok()?;
        data[start..start + PREFIX_BYTES].copy_from_slice(&length.to_le_bytes());
        Some(cursor.at)
    }

    fn fault(cursor: &mut Cursor<'_>) -> Refused {
        cursor.string().err().unwrap_or_else(|| Refused::too_large("an element is over 4 GiB"))
    }
}

struct Reader<'r, 't, 'l, E> {
    cursor: &'r mut Cursor<'t>,
    shape: &'r [u64],
    elements: u64,
    budget: &'r mut Budget<'l>,
    data: Vec<u8>,
    element: PhantomData<E>,
}

impl<'r, 't, 'l, E: Element> Reader<'r, 't, 'l, E> {
    fn new(
        cursor: &'r mut Cursor<'t>,
        shape: &'r [u64],
        budget: &'r mut Budget<'l>,
    ) -> Result<Reader<'r, 't, 'l, E>, Refused> {
        let elements = budget.elements(shape)?;
        // Each takes a byte of text at least: no memory is set aside for a shape alone.
        match elements > (cursor.text.len() - cursor.at) as u64 {
            true => Err(Refused::invalid("holds fewer elements than its shape has").at(cursor.at)),
            false => Ok(Reader { cursor, shape, elements, budget, data: Vec::new(), element: PhantomData }),
        }
    }

    /// `size`: of an element. `None`: they differ.
    fn read(mut self, size: Option<u64>) -> Result<Vec<u8>, Refused> {
        if let Some(size) = size {
            // No overflow: there are not more elements than bytes of text.
            let bytes = self.elements * size;
            self.budget.spend(bytes)?;
            self.data.reserve_exact(bytes as usize);
        }
        match self.cursor.peek() {
            Some(b'[') => self.level(0)?,
            Some(_) if self.shape.is_empty() => match E::take(self.cursor, self.cursor.at, &mut self.data) {
                Some(end) => self.cursor.at = end,
                None => return Err(E::fault(self.cursor)),
            },
            _ => return Err(self.cursor.wrong("an array is missing")),
        }
        if size.is_none() {
            self.budget.spend(self.data.len() as u64)?;
        }
        Ok(self.data)
    }

    /// The array that is next: of elements, if it is the innermost or all of them, or of arrays.
    fn level(&mut self, level: usize) -> Result<(), Refused> {
        self.cursor.deepen()?;
        let start = self.cursor.at;
        self.cursor.at += 1;
        let is_innermost = level + 1 >= self.shape.len();
        let (count, expected) = match self.cursor.peek() {
            Some(b']') => {
                self.cursor.at += 1;
                (0, if level == 0 && self.elements == 0 { 0 } else { self.side(level) })
            }
            Some(b'[') if is_innermost => return Err(self.cursor.wrong("nested deeper than its shape")),
            Some(b'[') => (self.arrays(level)?, self.side(level)),
            _ if is_innermost => (self.run(self.side(level))?, self.side(level)),
            _ if level == 0 => (self.run(self.elements)?, self.elements),
            _ => return Err(self.cursor.wrong("neither flat nor nested as its shape")),
        };
        self.cursor.rise();
        match count == expected {
            true => Ok(()),
            false => Err(miscounted(count, expected).at(start)),
        }
    }

    fn side(&self, level: usize) -> u64 {
        self.shape.get(level).copied().unwrap_or(1)
    }

    fn arrays(&mut self, level: usize) -> Result<u64, Refused> {
        let mut count = 0;
        loop {
            if self.cursor.peek() != Some(b'[') {
                return Err(self.cursor.wrong("an array is missing"));
            }
            self.level(level + 1)?;
            count += 1;
            if self.cursor.takes(b']') {
                return Ok(count);
            }
            self.cursor.expect(b',', "a comma is missing")?;
        }
    }

    /// Elements with commas between, and the bracket behind them.
    fn run(&mut self, most: u64) -> Result<u64, Refused> {
        let (text, mut at, mut count) = (self.cursor.text, self.cursor.at, 0);
        loop {
            // Before its element is: data never outgrows what was paid for.
            if count == most {
                return Err(miscounted(count + 1, most).at(at));
            }
            let Some(end) = E::take(self.cursor, at, &mut self.data) else {
                self.cursor.at = at;
                return Err(E::fault(self.cursor));
            };
            count += 1;
            // Most have nothing else between them.
            if let Some([b',', b'-' | b'0'..=b'9']) = text.get(end..end + 2) {
                at = end + 1;
                continue;
            }
            self.cursor.at = end;
            match self.cursor.peek() {
                Some(b',') => self.cursor.at += 1,
                Some(b']') => {
                    self.cursor.at += 1;
                    return Ok(count);
                }
                _ => return Err(self.cursor.wrong("a comma is missing")),
            }
            self.cursor.peek();
            at = self.cursor.at;
        }
    }
}

#[cold]
fn miscounted(count: u64, expected: u64) -> Refused {
    Refused::invalid(match count > expected {
        true => format!("holds more than the {expected} that its shape has there"),
        false => format!("holds {count}, and its shape has {expected} there"),
    })
}
