//! Owns the best classes of a tensor of scores: for each of its rows so many, the best first, with their labels.

use serde_json::{Value, json};

use super::Classes;
use crate::inference::tensor::{Datatype, Tensor};

/// A list for each row. An error says what is wrong with the tensor.
pub fn best(classes: &Classes, tensor: &Tensor) -> Result<Vec<Value>, String> {
    let scores = scores(tensor)?;
    let row = match tensor.shape.last() {
        Some(&row) => usize::try_from(row).unwrap_or(usize::MAX),
        None => 1,
    };
    if row == 0 {
        return Ok(Vec::new());
    }
    let entries = scores.len().div_ceil(row).saturating_mul(classes.top.min(row));
    if entries > ENTRIES_MAX {
        return Err(format!("the output {:?} has more rows than can be told", tensor.name));
    }
    Ok(scores.chunks(row).map(|row| best_of(classes, row)).collect())
}

/// Of all rows: each takes some hundred bytes until it is written.
const ENTRIES_MAX: usize = 65_536;

fn best_of(classes: &Classes, row: &[f64]) -> Value {
    let mut order: Vec<usize> = (0..row.len()).collect();
    let top = classes.top.min(order.len());
    // Equal ones by number, so that the same scores always read alike. What is no number comes last.
    let score = |class: usize| if row[class].is_nan() { f64::NEG_INFINITY } else { row[class] };
    let before = |one: &usize, other: &usize| score(*other).total_cmp(&score(*one)).then(one.cmp(other));
    if top > 0 && top < order.len() {
        order.select_nth_unstable_by(top - 1, before);
    }
    order.truncate(top);
    order.sort_unstable_by(before);
    let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = row.iter().map(|score| (score - most).exp()).sum();
    let told = |class: usize| match classes.is_softmax {
        true => (row[class] - most).exp() / sum,
        false => row[class],
    };
    let entry = |class: usize| {
        let mut entry = json!({ "index": class, "score": shortest(told(class)) });
        if let Some(label) = classes.labels.get(class) {
            entry["label"] = Value::from(&**label);
        }
        entry
    };
    order.into_iter().map(entry).collect()
}

/// As an FP32 is written.
fn shortest(score: f64) -> f64 {
    (score as f32).to_string().parse().unwrap_or(score)
}

fn scores(tensor: &Tensor) -> Result<Vec<f64>, String> {
    fn read<const N: usize>(data: &[u8], of: fn([u8; N]) -> f64) -> Vec<f64> {
        data.as_chunks::<N>().0.iter().map(|element| of(*element)).collect()
    }
    let data = &tensor.data[..];
    Ok(match tensor.datatype {
        Datatype::Uint8 => read(data, |[byte]| byte.into()),
        Datatype::Int8 => read(data, |[byte]| (byte as i8).into()),
        Datatype::Uint16 => read(data, |bytes| u16::from_le_bytes(bytes).into()),
        Datatype::Int16 => read(data, |bytes| i16::from_le_bytes(bytes).into()),
        Datatype::Uint32 => read(data, |bytes| u32::from_le_bytes(bytes).into()),
        Datatype::Int32 => read(data, |bytes| i32::from_le_bytes(bytes).into()),
        Datatype::Uint64 => read(data, |bytes| u64::from_le_bytes(bytes) as f64),
        Datatype::Int64 => read(data, |bytes| i64::from_le_bytes(bytes) as f64),
        Datatype::Fp16 => read(data, |bytes| of_fp16(u16::from_le_bytes(bytes))),
        Datatype::Bf16 => {
            read(data, |bytes| f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16).into())
        }
        Datatype::Fp32 => read(data, |bytes| f32::from_le_bytes(bytes).into()),
        Datatype::Fp64 => read(data, f64::from_le_bytes),
        Datatype::Bool | Datatype::Bytes => {
            return Err(format!(
                "the output {:?} is {}, which has no scores",
                tensor.name,
                tensor.datatype.name()
            ));
        }
    })
}

/// IEEE 754 binary16.
fn of_fp16(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    sign * match exponent {
        0 => fraction * (-24f64).exp2(),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * f64::from(exponent - 25).exp2(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(shape: &[u64], scores: &[f32]) -> Tensor {
        let data: Vec<u8> = scores.iter().flat_map(|score| score.to_le_bytes()).collect();
        Tensor { name: "scores".into(), datatype: Datatype::Fp32, shape: shape.to_vec(), data: data.into() }
    }

    fn classes(top: usize, is_softmax: bool) -> Classes {
        Classes { top, is_softmax, labels: ["cat", "dog"].map(Box::from).into() }
    }

    #[test]
    fn each_row_has_its_best_first_with_labels_as_far_as_there_are() {
        let best = best(&classes(2, false), &tensor(&[2, 3], &[1.0, 3.0, 2.0, 5.0, f32::NAN, 5.0])).unwrap();
        assert_eq!(
            serde_json::to_string(&best).unwrap(),
            r#"[[{"index":1,"label":"dog","score":3.0},{"index":2,"score":2.0}],[{"index":0,"label":"cat","score":5.0},{"index":2,"score":5.0}]]"#
        );
    }

    #[test]
    fn a_softmax_sums_up_to_one_however_large_the_scores() {
        let best = best(&classes(9, true), &tensor(&[1, 4], &[1000.0, 1001.0, -5000.0, 999.0])).unwrap();
        let sum: f64 = best[0].as_array().unwrap().iter().map(|entry| entry["score"].as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-6, "{sum}");
        assert_eq!(best[0][0]["index"], 1);
        assert_eq!(best[0].as_array().unwrap().len(), 4);
    }

    #[test]
    fn scores_of_any_datatype_are_read() {
        assert_eq!(of_fp16(0x3c00), 1.0);
        assert_eq!(of_fp16(0xc000), -2.0);
        assert_eq!(of_fp16(0x7bff), 65504.0);
        assert_eq!(of_fp16(1), 2f64.powi(-24));
        assert!(of_fp16(0x7e00).is_nan() && of_fp16(0xfc00) == f64::NEG_INFINITY);
        for (datatype, bytes) in [
            (Datatype::Uint8, &[7u8, 9][..]),
            (Datatype::Int16, &[7, 0, 9, 0]),
            (Datatype::Int64, &[7, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]),
            (Datatype::Bf16, &[0xe0, 0x40, 0x10, 0x41]),
        ] {
            let data = bytes.to_vec().into();
            let tensor = Tensor { name: "s".into(), datatype, shape: vec![2], data };
            assert_eq!(scores(&tensor), Ok(vec![7.0, 9.0]), "{datatype:?}");
        }
        let text =
            Tensor { name: "s".into(), datatype: Datatype::Bytes, shape: vec![0], data: Default::default() };
        assert!(best(&classes(1, false), &text).is_err());
    }
}
