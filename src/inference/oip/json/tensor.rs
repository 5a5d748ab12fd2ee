//! Owns how arrays become the bytes of a tensor: flat, or nested as the shape is. Each element is read where it stands, once.

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
    let elements = budget.elements(shape)?;
    match datatype {
        Datatype::Bool => Reader::new(cursor, shape, elements, budget, boolean)?.read(Some(1)),
        Datatype::Uint8 => Reader::new(cursor, shape, elements, budget, number::<u8>)?.read(Some(1)),
        Datatype::Uint16 => Reader::new(cursor, shape, elements, budget, number::<u16>)?.read(Some(2)),
        Datatype::Uint32 => Reader::new(cursor, shape, elements, budget, number::<u32>)?.read(Some(4)),
        Datatype::Uint64 => Reader::new(cursor, shape, elements, budget, number::<u64>)?.read(Some(8)),
        Datatype::Int8 => Reader::new(cursor, shape, elements, budget, number::<i8>)?.read(Some(1)),
        Datatype::Int16 => Reader::new(cursor, shape, elements, budget, number::<i16>)?.read(Some(2)),
        Datatype::Int32 => Reader::new(cursor, shape, elements, budget, number::<i32>)?.read(Some(4)),
        Datatype::Int64 => Reader::new(cursor, shape, elements, budget, number::<i64>)?.read(Some(8)),
        Datatype::Fp32 => Reader::new(cursor, shape, elements, budget, number::<f32>)?.read(Some(4)),
        Datatype::Fp64 => Reader::new(cursor, shape, elements, budget, number::<f64>)?.read(Some(8)),
        Datatype::Bytes => Reader::new(cursor, shape, elements, budget, text)?.read(None),
        Datatype::Fp16 | Datatype::Bf16 => {
            let name = datatype.name();
            Err(Refused::invalid(format!(
                "is {name}, which JSON has no numbers for: it comes in binary only"
            )))
        }
    }
}

#[inline]
fn number<T: Number>(cursor: &mut Cursor<'_>, data: &mut Vec<u8>) -> Result<(), Refused> {
    T::read(cursor).map(|number| number.put(data))
}

fn boolean(cursor: &mut Cursor<'_>, data: &mut Vec<u8>) -> Result<(), Refused> {
    cursor.boolean().map(|is_true| data.push(is_true.into()))
}

/// Its length goes before it, once that is known.
fn text(cursor: &mut Cursor<'_>, data: &mut Vec<u8>) -> Result<(), Refused> {
    let start = data.len();
    data.extend_from_slice(&[0; PREFIX_BYTES]);
    cursor.string_into(data)?;
    let length = u32::try_from(data.len() - start - PREFIX_BYTES);
    let length = length.map_err(|_| Refused::too_large("an element is over 4 GiB"))?;
    data[start..start + PREFIX_BYTES].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

struct Reader<'r, 't, 'l, F> {
    cursor: &'r mut Cursor<'t>,
    shape: &'r [u64],
    elements: u64,
    budget: &'r mut Budget<'l>,
    /// Takes an element, with no white space before it.
    element: F,
    data: Vec<u8>,
}

impl<'r, 't, 'l, F> Reader<'r, 't, 'l, F>
where
    F: Fn(&mut Cursor<'t>, &mut Vec<u8>) -> Result<(), Refused>,
{
    fn new(
        cursor: &'r mut Cursor<'t>,
        shape: &'r [u64],
        elements: u64,
        budget: &'r mut Budget<'l>,
        element: F,
    ) -> Result<Reader<'r, 't, 'l, F>, Refused> {
        // Each takes a byte of text at least: no memory is set aside for a shape alone.
        match elements > (cursor.text.len() - cursor.at) as u64 {
            true => Err(Refused::invalid("holds fewer elements than its shape has").at(cursor.at)),
            false => Ok(Reader { cursor, shape, elements, budget, element, data: Vec::new() }),
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
            Some(_) if self.shape.is_empty() => (self.element)(self.cursor, &mut self.data)?,
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
    #[inline]
    fn run(&mut self, most: u64) -> Result<u64, Refused> {
        let mut count = 0;
        loop {
            // Before its element is: data never outgrows what was paid for.
            if count == most {
                return Err(miscounted(count + 1, most).at(self.cursor.at));
            }
            (self.element)(self.cursor, &mut self.data)?;
            count += 1;
            match self.cursor.peek() {
                Some(b',') => self.cursor.at += 1,
                Some(b']') => {
                    self.cursor.at += 1;
                    return Ok(count);
                }
                _ => return Err(self.cursor.wrong("a comma is missing")),
            }
            self.cursor.peek();
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
