//! Owns the proofs that what is written as JSON, with and without binary tensors, reads the same; that numbers are those that the standard
//! library reads; and that what is wrong is refused where it stands. `numbers` and `refusals` are below.

use bytes::Bytes;
use serde_json::{Value, json};

use super::super::limits::Limits;
use super::super::model::{InferRequest, InferResponse, Parameter};
use super::super::random::{Contents, Random, prefixed};
use super::super::refused::{Kind, Refused};
use super::*;
use crate::inference::json_scan::{Rules, Scanner};
use crate::inference::tensor::{Datatype, Tensor};

const LIMITS: Limits =
    Limits { depth: 8, tensors: 4, dimensions: 4, elements: 1000, data_bytes: 4096, parameters: 8 };

fn read(body: &str) -> Result<InferRequest, Refused> {
    read_request(&Bytes::copy_from_slice(body.as_bytes()), None, &LIMITS)
}

/// The data of one input.
fn data(datatype: &str, shape: &str, data: &str) -> Result<Bytes, Refused> {
    let before =
        format!(r#"{{"inputs":[{{"name":"x","shape":{shape},"datatype":"{datatype}","data":{data}}}]}}"#);
    let behind =
        format!(r#"{{"inputs":[{{"data":{data},"name":"x","datatype":"{datatype}","shape":{shape}}}]}}"#);
    let [before, behind] =
        [before, behind].map(|body| read(&body).map(|request| request.inputs[0].tensor.data.clone()));
    match (&before, &behind) {
        (Ok(before), Ok(behind)) => assert_eq!(before, behind),
        // Where it is wrong twice, what is no JSON is seen first if the data stands first.
        (Err(_), Err(_)) => {}
        (before, behind) => panic!("{before:?} and {behind:?}"),
    }
    before
}

fn told(datatype: &str, shape: &str, text: &str) -> String {
    let refused = data(datatype, shape, text).unwrap_err();
    assert!(refused.path.starts_with("inputs[0].data"), "{refused}");
    refused.what.into_owned()
}

#[test]
fn random_messages_are_read_as_they_were_written() {
    let mut random = Random::new();
    for _ in 0..2_000 {
        let written = random.request(Contents::Json);
        let body = write_request(&written, |_| false).unwrap();
        assert_eq!((body.header_bytes(), body.tail.len()), (None, 0));
        // What we write, another parser takes, and the shape check too.
        let tree: Value = serde_json::from_slice(&body.json).unwrap();
        assert_eq!(tree["inputs"].as_array().unwrap().len(), written.inputs.len());
        assert_eq!(scan(&body.json), Ok(()));
        let mut read = read_request(&body.into_vec().into(), None, &Limits::default()).unwrap();
        (read.model, read.version) = (written.model.clone(), written.version.clone());
        assert_eq!(read, written);

        let written = random.response(Contents::Json);
        let body = write_response(&written, |_| false).unwrap().into_vec();
        assert_eq!(read_response(&body.into(), None, &Limits::default()).as_ref(), Ok(&written));
    }
}

#[test]
fn random_messages_with_binary_tensors_are_read_as_they_were_written() {
    let mut random = Random::new();
    let mut mixed = 0;
    for _ in 0..2_000 {
        let mut written = random.request(Contents::Json);
        written.inputs.push(random.tensor(Contents::Json));
        written.is_binary_output = [None, Some(true), Some(false)][random.below(3)];
        for output in &mut written.outputs {
            output.is_binary = [None, Some(true), Some(false)][random.below(3)];
        }
        let chosen = |tensor: &Tensor| tensor.data.len().is_multiple_of(2);
        let body = write_request(&written, chosen).unwrap();
        let header_bytes = body.header_bytes();
        mixed += usize::from(!body.tail.is_empty() && body.tail.len() < written.inputs.len());
        let (length, body) = (body.len(), Bytes::from(body.into_vec()));
        assert_eq!(length, body.len());
        let mut read = read_request(&body, header_bytes, &Limits::default()).unwrap();
        (read.model, read.version) = (written.model.clone(), written.version.clone());
        assert_eq!(read, written);
        if let Some(header_bytes) = header_bytes {
            for end in (0..body.len()).step_by(7).chain([body.len() - 1]) {
                assert!(
                    read_request(&body.slice(..end), Some(header_bytes.min(end)), &Limits::default())
                        .is_err()
                );
            }
        }
    }
    assert!(mixed > 300, "{mixed}");
    for _ in 0..500 {
        let written = random.response(Contents::Any);
        let Ok(body) = write_response(&written, |_| true) else {
            assert!(
                written
                    .parameters
                    .values()
                    .any(|value| matches!(value, Parameter::Double(number) if !number.is_finite()))
                    || written.outputs.iter().any(|output| output
                        .parameters
                        .values()
                        .any(|value| matches!(value, Parameter::Double(_))))
            );
            continue;
        };
        let header_bytes = body.header_bytes();
        assert_eq!(header_bytes.is_some(), !written.outputs.is_empty());
        assert_eq!(
            read_response(&body.into_vec().into(), header_bytes, &Limits::default()).as_ref(),
            Ok(&written)
        );
    }
}

#[test]
fn binary_tensors_are_slices_of_the_body() {
    let json =
        br#"{"inputs":[{"name":"a","shape":[3],"datatype":"UINT8","parameters":{"binary_data_size":3}}]}"#;
    let body = Bytes::from([&json[..], b"abc"].concat());
    let request = read_request(&body, Some(json.len()), &LIMITS).unwrap();
    assert_eq!(request.inputs[0].tensor.data, b"abc"[..]);
    assert!(body.as_ptr_range().contains(&request.inputs[0].tensor.data.as_ptr()));
    assert!(request.inputs[0].parameters.is_empty());
}

#[test]
fn every_cut_is_an_error() {
    let mut random = Random::new();
    for _ in 0..100 {
        let body = Bytes::from(write_request(&random.request(Contents::Json), |_| false).unwrap().json);
        for end in 0..body.len() {
            assert!(read_request(&body.slice(..end), None, &Limits::default()).is_err());
        }
        for _ in 0..200 {
            let mut broken = body.to_vec();
            let at = random.below(broken.len());
            broken[at] = random.next() as u8;
            let is_json = serde_json::from_slice::<Value>(&broken).is_ok();
            let read = read_request(&broken.clone().into(), None, &Limits::default());
            // Also not what serde_json refuses: numbers beyond an f64 stand in no tensor that is read.
            assert!(is_json || read.is_err(), "{}", broken.escape_ascii());
        }
    }
}

/// The check that other routes make of the shape refuses nothing that is read here, and `null` means the same to both.
#[test]
fn the_shape_check_agrees() {
    const GOOD: &str = r#"{"name":"a","shape":[2,2],"datatype":"FP32","data":[1,2,3,4]}"#;
    for (body, is_read) in [
        (r#"{"inputs":[GOOD]}"#, true),
        (
            r#" { "id" : "42" , "parameters" : {} , "inputs" : [ GOOD , GOOD ] , "outputs" : [ { "name" : "x" } ] } "#,
            true,
        ),
        (r#"{"id":null,"parameters":null,"outputs":null,"inputs":[GOOD]}"#, true),
        (
            r#"{"inputs":[{"name":"a","shape":[1],"datatype":"FP32","parameters":null,"data":[1]}],"outputs":[{"name":"b","parameters":null}]}"#,
            true,
        ),
        (r#"{"inputs":[{"name":"a","shape":[1],"data\u0074ype":"\u0046P32","d\u0061ta":[1]}]}"#, true),
        (r#"{"model":"m","inputs":[GOOD],"more":[{"inputs":1}]}"#, true),
        (r#"{"inputs":null}"#, false),
        (r#"{"inputs":[]}"#, false),
        (r#"{"inputs":[GOOD,null]}"#, false),
        (r#"{"inputs":[{"name":null,"shape":[1],"datatype":"INT8","data":[1]}]}"#, false),
        (r#"{"inputs":[{"name":"a","shape":null,"datatype":"INT8","data":[1]}]}"#, false),
        (r#"{"inputs":[{"name":"a","shape":[1],"datatype":null,"data":[1]}]}"#, false),
        (r#"{"inputs":[{"name":"a","shape":[-0],"datatype":"INT8","data":[1]}]}"#, false),
        (r#"{"inputs":[{"name":"a","shape":[1.0],"datatype":"INT8","data":[1]}]}"#, false),
        (r#"{"inputs":[{"name":"a","shape":[1],"datatype":"int8","data":[1]}]}"#, false),
        (r#"{"inputs":[{"name":"a","shape":[1],"datatype":"INT8"}]}"#, false),
        (r#"{"id":1,"inputs":[GOOD]}"#, false),
        (r#"{"inputs":[GOOD],"outputs":[{"name":null}]}"#, false),
        (r#"{"inputs":[GOOD],"outputs":[{}]}"#, false),
    ] {
        let body = body.replace("GOOD", GOOD);
        assert_eq!(
            (scan(body.as_bytes()).is_ok(), read(&body).is_ok()),
            (is_read, is_read),
            "{body}: {:?}",
            read(&body)
        );
    }
    // Left out by `null`, the data may be elsewhere; elsewhere is nowhere without a binary part.
    let null = r#"{"inputs":[{"name":"a","shape":[0],"datatype":"INT8","data":null,"parameters":{"binary_data_size":0}}]}"#;
    assert!(scan(null.as_bytes()).is_ok() && read(null).is_ok());
    assert!(read(&null.replace(":0}", ":null}")).is_err());
}

fn scan(body: &[u8]) -> Result<(), String> {
    let mut scanner = Scanner::new(Rules { depth_max: 64, peek: None, is_inference: true });
    scanner.push(body).and_then(|()| scanner.finish()).map_err(|invalid| invalid.to_string())
}

#[test]
fn arrays_are_flat_or_nested_as_their_shape() {
    let six: Vec<u8> = (1..=6).collect();
    for (shape, text) in [
        ("[6]", "[1,2,3,4,5,6]"),
        ("[2,3]", "[1,2,3,4,5,6]"),
        ("[2,3]", " [ [ 1 , 2 , 3 ] ,\n[ 4 , 5 , 6 ] ] "),
        ("[1,2,3]", "[1,2,3,4,5,6]"),
        ("[1,2,3]", "[[[1,2,3],[4,5,6]]]"),
        ("[3,2,1]", "[[[1],[2]],[[3],[4]],[[5],[6]]]"),
    ] {
        assert_eq!(data("UINT8", shape, text).unwrap(), six, "{shape} {text}");
    }
    for (shape, text) in
        [("[0]", "[]"), ("[2,0]", "[]"), ("[2,0]", "[[],[]]"), ("[0,2]", "[]"), ("[2,0,5]", "[[],[]]")]
    {
        assert!(data("UINT8", shape, text).unwrap().is_empty(), "{shape} {text}");
    }
    for text in ["7", "[7]"] {
        assert_eq!(data("UINT8", "[]", text).unwrap(), [7][..]);
    }
    for (shape, text, expected) in [
        ("[2,3]", "[[1,2,3],[4,5]]", "holds 2, and its shape has 3 there"),
        ("[2,3]", "[[1,2,3],[4,5,6,7]]", "holds more than the 3 that its shape has there"),
        ("[2,3]", "[[1,2,3]]", "holds 1, and its shape has 2 there"),
        ("[2,3]", "[[1,2,3],[],[]]", "holds 0, and its shape has 3 there"),
        ("[2,3]", "[[1,2,3],4,5,6]", "an array is missing"),
        ("[2,3]", "[1,2,3,[4,5,6]]", "a value is missing"),
        ("[2,3]", "[1,2,3,4,5]", "holds 5, and its shape has 6 there"),
        ("[2,3]", "[1,2,3,4,5,6,7]", "holds more than the 6 that its shape has there"),
        ("[2,3]", "[[[1,2,3]],[[4,5,6]]]", "nested deeper than its shape"),
        ("[2,2,2]", "[[1,2,3,4],[5,6,7,8]]", "neither flat nor nested as its shape"),
        ("[3]", "[[1],[2],[3]]", "nested deeper than its shape"),
        ("[]", "[]", "holds 0, and its shape has 1 there"),
        ("[]", "[1,2]", "holds more than the 1 that its shape has there"),
        ("[1]", "7", "an array is missing"),
        ("[1]", "\"a\"", "an array is missing"),
        ("[1]", "{}", "an array is missing"),
        ("[0,2]", "[[1,2]]", "holds more than the 0 that its shape has there"),
        ("[900]", "[1,2]", "holds fewer elements than its shape has"),
    ] {
        assert_eq!(told("UINT8", shape, text), expected, "{shape} {text}");
    }
}

#[test]
fn elements_are_of_their_datatype() {
    let bytes = [&b"ab"[..], "é\u{10ffff}\n\"".as_bytes(), b""].map(prefixed).concat();
    assert_eq!(data("BYTES", "[3]", r#"["ab","\u00e9\udbff\udfff\n\"",""]"#).unwrap(), bytes);
    assert_eq!(data("BOOL", "[2]", "[true, false]").unwrap(), [1, 0][..]);
    for (datatype, least, most) in [
        ("INT8", i8::MIN.into(), i8::MAX.into()),
        ("UINT8", 0, u8::MAX.into()),
        ("INT16", i16::MIN.into(), i16::MAX.into()),
        ("UINT16", 0, u16::MAX.into()),
        ("INT32", i32::MIN.into(), i32::MAX.into()),
        ("UINT32", 0, u32::MAX.into()),
        ("INT64", i64::MIN.into(), i64::MAX.into()),
        ("UINT64", 0, i128::from(u64::MAX)),
    ] {
        let size = Datatype::of(datatype).and_then(Datatype::size).unwrap();
        let expected = [least, most, 0].map(|number| number.to_le_bytes()[..size].to_vec()).concat();
        assert_eq!(data(datatype, "[3]", &format!("[{least},{most},-0]")).unwrap(), expected, "{datatype}");
        for number in [least - 1, most + 1, most * 1000] {
            let told = told(datatype, "[1]", &format!("[{number}]"));
            assert!(told.ends_with("out of the datatype's range"), "{told}");
        }
        for number in ["1.0", "1e0", "1E2", "0.5"] {
            assert_eq!(told(datatype, "[1]", &format!("[{number}]")), "is not written as an integer");
        }
    }
    for (datatype, text, expected) in [
        ("FP16", "[1]", "is FP16, which JSON has no numbers for: it comes in binary only"),
        ("BF16", "[1]", "is BF16, which JSON has no numbers for: it comes in binary only"),
        ("BOOL", "[1]", "neither true nor false"),
        ("BYTES", "[1]", "a string is missing"),
        ("FP32", "[true]", "a value is missing"),
        ("FP32", "[null]", "a value is missing"),
        ("FP32", "[1e39]", "is too large for the datatype"),
        ("FP64", "[1e309]", "is too large for the datatype"),
        ("INT8", "[\"1\"]", "a value is missing"),
    ] {
        assert_eq!(told(datatype, "[1]", text), expected, "{datatype} {text}");
    }
}

fn float32(text: &str) -> Result<f32, Refused> {
    let data = data("FP32", "[]", text)?;
    Ok(f32::from_le_bytes(data[..].try_into().unwrap()))
}

fn float64(text: &str) -> Result<f64, Refused> {
    let data = data("FP64", "[]", text)?;
    Ok(f64::from_le_bytes(data[..].try_into().unwrap()))
}

fn assert_exact(text: &str) {
    let (single, double): (f32, f64) = (text.parse().unwrap(), text.parse().unwrap());
    match float32(text) {
        Ok(read) => assert_eq!(read.to_bits(), single.to_bits(), "{text}"),
        Err(_) => assert!(single.is_infinite(), "{text}"),
    }
    match float64(text) {
        Ok(read) => assert_eq!(read.to_bits(), double.to_bits(), "{text}"),
        Err(_) => assert!(double.is_infinite(), "{text}"),
    }
}

#[test]
fn floats_are_the_nearest_to_their_text() {
    for text in [
        "0",
        "-0",
        "0.0",
        "-0.0e5",
        "1",
        "255.0",
        "16777216",
        "16777217",
        "16777219",
        "33554433.0",
        "1e10",
        "1E-45",
        "7e-46",
        "1.4e-45",
        "1.1754943e-38",
        "1.17549435e-38",
        "3.4028235e38",
        "3.4028236e38",
        "340282346638528859811704183484516925440.0",
        "1e400",
        "1e-400",
        "0.1",
        "0.48627451062202454",
        "0.00012345678901234567",
        "123456789012345678901234567890",
        "0.000000000000000000000000000000000001",
        "9007199254740993",
        "9007199254740993.0000000000000000000001",
        "2.2250738585072011e-308",
        "5e-324",
        "2e-324",
        "1.7976931348623157e308",
        "0.500000029802322387695312500000000000000000000000000000001",
        "0.5000000298023223876953125",
        "1.00000005960464477539062500",
        "12345678901.5",
        "1234567890123456789.25",
        "99999999999999999999999999.99999999999",
        "1e22",
        "1e23",
        "8.5e22",
        "1e99999999999999999999",
        "1e-99999999999999999999",
        "0.00000000e99",
        "18446744073709551616",
        "1844674407370955161500000000000.5",
    ] {
        assert_exact(text);
    }
    let mut random = Random::new();
    for _ in 0..8_000 {
        let single = f32::from_bits(random.next() as u32);
        let double = f64::from_bits(random.next());
        if !single.is_finite() || !double.is_finite() {
            continue;
        }
        // As others write them: shortest, as an FP64, in full, and with other numbers of digits.
        let short = 0.5f32 + single.fract() / 2.0;
        for text in [
            format!("{single:?}"),
            format!("{}", f64::from(single)),
            format!("{single:e}"),
            format!("{:.*}", random.below(24), f64::from(short)),
            format!("{double:?}"),
            format!("{:.*e}", random.below(26), double),
        ] {
            assert_exact(&text);
        }
    }
}

/// Texts in, just above and just below the middle of two FP32s, where a detour over FP64 would go wrong.
#[test]
fn halves_of_the_last_place_are_rounded_once() {
    let mut random = Random::new();
    for _ in 0..6_000 {
        let below = f32::from_bits(random.next() as u32 & 0x7fff_ffff);
        let above = f32::from_bits(below.to_bits() + 1);
        if !above.is_finite() {
            continue;
        }
        let middle = (f64::from(below) + f64::from(above)) / 2.0;
        let text = format!("{middle:.60e}");
        let (digits, power) = text.split_once('e').unwrap();
        for text in
            [text.clone(), format!("{digits}1e{power}"), format!("{}e{power}", digits.trim_end_matches('0'))]
        {
            let expected: f32 = text.parse().unwrap();
            assert_eq!(float32(&text).unwrap().to_bits(), expected.to_bits(), "{text}");
        }
        for near in [f64::from_bits(middle.to_bits() - 1), f64::from_bits(middle.to_bits() + 1)] {
            let expected: f32 = format!("{near:?}").parse().unwrap();
            assert_eq!(float32(&format!("{near:?}")).unwrap().to_bits(), expected.to_bits(), "{near:?}");
        }
    }
}

/// As numbers, also at the very end of a text and with anything behind them, exactly what serde_json takes.
#[test]
fn what_is_a_number_is_what_another_parser_says() {
    let mut random = Random::new();
    let chars = b"0123456789012345678900..--+eE, ]x";
    let mut good = 0;
    for _ in 0..40_000 {
        let text: String =
            (0..random.below(30)).map(|_| char::from(chars[random.below(chars.len())])).collect();
        let expected = serde_json::from_str::<Value>(&text);
        match float64(&text) {
            Ok(read) => {
                good += 1;
                assert_eq!(Some(read), text.trim().parse().ok().or(expected.unwrap().as_f64()), "{text}");
            }
            Err(refused) if refused.kind == Kind::Invalid => {}
            Err(_) => assert!(!expected.is_ok_and(|value| value.is_number()), "{text}"),
        }
    }
    assert!(good > 1_000, "{good}");
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    const GOOD: &str = r#"{"name":"a","shape":[1],"datatype":"INT8","data":[1]}"#;
    for (body, expected) in [
        ("", "it ends in the middle (at byte 0)"),
        ("[]", "an object is missing (at byte 0)"),
        ("{}", "has no inputs"),
        (r#"{"inputs":[GOOD]}x"#, "something follows the value (at byte 66)"),
        (r#"{"inputs":[GOOD],"inputs":[GOOD]}"#, "inputs: stands twice (at byte 75)"),
        (r#"{"id":null,"id":"a","inputs":[GOOD]}"#, "id: stands twice (at byte 16)"),
        (r#"{"inputs":[GOOD,{"name":"a","name":"b"}]}"#, "inputs[1].name: stands twice (at byte 84)"),
        (r#"{"parameters":{"a":1,"a":2}}"#, "parameters.a: stands twice (at byte 26)"),
        (
            r#"{"parameters":{"a":[1]}}"#,
            "parameters.a: is neither a boolean nor a number nor a string (at byte 19)",
        ),
        (
            r#"{"parameters":{"a":99999999999999999999}}"#,
            "parameters.a: 99999999999999999999 is out of the datatype's range (at byte 19)",
        ),
        (
            r#"{"parameters":{"binary_data_output":1},"inputs":[GOOD]}"#,
            "parameters.binary_data_output: is not a boolean",
        ),
        (
            r#"{"inputs":[GOOD],"outputs":[{"name":"b","parameters":{"binary_data":"yes"}}]}"#,
            "outputs[0].parameters.binary_data: is not a boolean",
        ),
        (r#"{"inputs":[{"shape":[1],"datatype":"INT8","data":[1]}]}"#, "inputs[0]: has no name (at byte 11)"),
        (r#"{"inputs":[{"name":"a","shape":[1],"datatype":"INT8"}]}"#, "inputs[0]: has no data (at byte 11)"),
        (
            r#"{"inputs":[{"name":"a","shape":[1],"datatype":"INT8","data":[300]}]}"#,
            "inputs[0].data: 300 is out of the datatype's range (at byte 61)",
        ),
        (
            r#"{"inputs":[{"name":"a","shape":[1],"datatype":"FP32","data":[NaN]}]}"#,
            "inputs[0].data: NaN and Infinity are no JSON numbers (at byte 61)",
        ),
        (
            r#"{"inputs":[{"name":"a","shape":[1],"datatype":"FP32","data":[-Infinity]}]}"#,
            "inputs[0].data: NaN and Infinity are no JSON numbers (at byte 62)",
        ),
        (
            r#"{"inputs":[{"data":[Infinity],"name":"a","shape":[1],"datatype":"FP32"}]}"#,
            "inputs[0].data: NaN and Infinity are no JSON numbers (at byte 20)",
        ),
        (
            r#"{"inputs":[{"name":"a","shape":[1],"datatype":"FP32","data":[01]}]}"#,
            "inputs[0].data: a comma is missing (at byte 62)",
        ),
        (
            r#"{"inputs":[{"name":"a","shape":[1],"datatype":"INT8","parameters":{"shared_memory_region":"r"}}]}"#,
            "inputs[0]: is in shared memory, which is not within reach here (at byte 11)",
        ),
        ("{\"id\":\"a\u{1}\",\"inputs\":[GOOD]}", "id: a control character is not escaped (at byte 8)"),
        (r#"{"id":"\ud800\u0041","inputs":[GOOD]}"#, "id: a surrogate stands alone (at byte 19)"),
        (r#"{"id":"\x","inputs":[GOOD]}"#, "id: no such escape (at byte 8)"),
    ] {
        let body = body.replace("GOOD", GOOD);
        assert_eq!(read(&body).unwrap_err().to_string(), expected, "{body}");
    }
    let refused = read_request(&Bytes::from_static(b"{\"id\":\"\xff\"}"), None, &LIMITS).unwrap_err();
    assert_eq!(refused.to_string(), "id: not UTF-8 (at byte 7)");
}

#[test]
fn binary_sizes_must_add_up() {
    let json = |size: &str, more: &str| {
        format!(
            r#"{{"inputs":[{{"name":"a","shape":[2],"datatype":"INT16","parameters":{{"binary_data_size":{size}}}{more}}}]}}"#
        )
    };
    let told = |json: &str, tail: &[u8], header: Option<usize>| {
        let body = Bytes::from([json.as_bytes(), tail].concat());
        read_request(&body, header, &LIMITS).map(drop).map_err(|refused| refused.to_string())
    };
    let good = json("4", "");
    assert_eq!(told(&good, b"abcd", Some(good.len())), Ok(()));
    for (json, tail, expected) in [
        (good.clone(), &b"abcde"[..], "1 bytes follow the last tensor"),
        (
            good.clone(),
            b"abc",
            "inputs[0].parameters.binary_data_size: reaches beyond the end of the body (at byte 11)",
        ),
        (json("3", ""), b"abc", "inputs[0]: holds 3 bytes, and INT16 of its shape takes 4 (at byte 11)"),
        (json("-4", ""), b"abcd", "inputs[0].parameters.binary_data_size: is no size (at byte 11)"),
        (json("\"4\"", ""), b"abcd", "inputs[0].parameters.binary_data_size: is no size (at byte 11)"),
        (json("4.0", ""), b"abcd", "inputs[0].parameters.binary_data_size: is no size (at byte 11)"),
        (json("4", ",\"data\":[1,2]"), b"abcd", "inputs[0]: has data, and binary_data_size too (at byte 11)"),
    ] {
        assert_eq!(told(&json, tail, Some(json.len())).unwrap_err(), expected);
    }
    assert!(told(&good, b"", None).unwrap_err().contains("nothing says where the JSON ends"));
    assert!(told(&good, b"abcd", None).unwrap_err().contains("nothing says where the JSON ends"));
    assert!(told(&good, b"abcd", Some(good.len() - 1)).is_err());
    assert!(told(&good, b"abcd", Some(good.len() + 1)).is_err());
    assert_eq!(told(&good, b"abcd", Some(1000)).unwrap_err(), "the JSON is said to be longer than the body");
    for (value, expected) in [
        (&b"12"[..], Some(12)),
        (b"20", Some(20)),
        (b"21", None),
        (b"", None),
        (b"+1", None),
        (b"1 ", None),
        (b"99999999999999999999", None),
    ] {
        assert_eq!(header_length(value, 20).ok(), expected);
    }
}

#[test]
fn limits_are_kept() {
    let input = |shape: &str, datatype: &str, data: &str| {
        format!(r#"{{"name":"a","shape":{shape},"datatype":"{datatype}","data":{data}}}"#)
    };
    let is_too_large = |body: &str| {
        let refused = read(body).unwrap_err();
        assert_eq!(refused.kind, Kind::TooLarge, "{refused}");
    };
    let one = input("[1]", "INT8", "[1]");
    is_too_large(&format!(r#"{{"inputs":[{}]}}"#, [one.as_str(); 5].join(",")));
    is_too_large(&format!(r#"{{"inputs":[{}]}}"#, input("[1,1,1,1,1]", "INT8", "[1]")));
    is_too_large(&format!(r#"{{"inputs":[{}]}}"#, input("[1001]", "INT8", &format!("{:?}", [1; 1001]))));
    is_too_large(&format!(r#"{{"inputs":[{}]}}"#, input("[513]", "INT64", &format!("{:?}", [1; 513]))));
    is_too_large(&format!(r#"{{"inputs":[{}]}}"#, input("[600]", "BYTES", &format!("{:?}", ["abcd"; 600]))));
    is_too_large(&format!(r#"{{"more":{}1{},"inputs":[{one}]}}"#, "[".repeat(8), "]".repeat(8)));
    let outputs = [r#"{"name":"x"}"#; 5].join(",");
    is_too_large(&format!(r#"{{"inputs":[{one}],"outputs":[{outputs}]}}"#));
    let parameters: Vec<String> = (0..9).map(|number| format!("\"{number}\":1")).collect();
    is_too_large(&format!(r#"{{"parameters":{{{}}}}}"#, parameters.join(",")));
    // A shape that no text could fill costs nothing.
    let huge = format!(r#"{{"inputs":[{}]}}"#, input("[268435456]", "FP64", "[1]"));
    let refused = read_request(&huge.into(), None, &Limits::default()).unwrap_err();
    assert_eq!(refused.what, "holds fewer elements than its shape has");
}

#[test]
fn what_json_cannot_say_is_not_written() {
    let response = |datatype, data: &[u8]| InferResponse {
        outputs: vec![super::super::model::Carried {
            tensor: Tensor { name: "y".into(), datatype, shape: vec![1], data: Bytes::copy_from_slice(data) },
            parameters: Default::default(),
        }],
        ..InferResponse::default()
    };
    for (datatype, data) in [
        (Datatype::Fp16, &[0, 60][..]),
        (Datatype::Bf16, &[128, 63]),
        (Datatype::Fp32, &f32::NAN.to_le_bytes()),
        (Datatype::Fp64, &f64::INFINITY.to_le_bytes()),
        (Datatype::Bytes, &prefixed(b"\xff")),
    ] {
        let unwritable = write_response(&response(datatype, data), |_| false).unwrap_err();
        assert!(
            unwritable.to_string().starts_with("tensor 0 ")
                && unwritable.to_string().ends_with("in binary only")
        );
        let body = write_response(&response(datatype, data), |_| true).unwrap();
        assert_eq!((body.content_type(), body.tail[0].as_ref()), ("application/octet-stream", data));
    }
    assert!(write_response(&response(Datatype::Fp32, &[0; 3]), |_| false).is_err());
    let body = write_response(&response(Datatype::Fp32, &0.1f32.to_le_bytes()), |_| false).unwrap();
    assert_eq!(
        String::from_utf8(body.json).unwrap(),
        r#"{"model_name":"","outputs":[{"name":"y","datatype":"FP32","shape":[1],"data":[0.1]}]}"#
    );
}

/// What gRPC calls by the names that REST has for binary tensors does not get through to REST.
#[test]
fn no_parameter_passes_for_a_binary_size() {
    let mut request = Random::new().request(Contents::Json);
    let size = |name: &str| (name.to_owned(), Parameter::Int64(1));
    request.parameters.extend([size("binary_data_output")]);
    request.inputs[0].parameters.extend([size("binary_data_size")]);
    for is_binary in [true, false] {
        let body = write_request(&request, |_| is_binary).unwrap();
        let header_bytes = body.header_bytes();
        let read = read_request(&body.into_vec().into(), header_bytes, &Limits::default()).unwrap();
        assert_eq!(read.is_binary_output, None);
        assert_eq!(read.inputs[0].tensor, request.inputs[0].tensor);
    }
}

#[test]
fn answers_of_other_servers_are_read() {
    let read = |body: &str| read_response(&Bytes::copy_from_slice(body.as_bytes()), None, &LIMITS);
    let response = read(
        r#"{"model_name":"m","model_version":null,"id":null,"parameters":{"x":null},"outputs":[
            {"name":"y","datatype":"INT64","shape":[1,2],"data":[[1,2]],"parameters":null}],"more":{}}"#,
    );
    assert_eq!(response.unwrap().outputs[0].tensor.data.len(), 16);
    assert!(read(r#"{"outputs":[]}"#).unwrap().outputs.is_empty());
    assert_eq!(read("{}").unwrap_err().to_string(), "has no outputs");
    assert_eq!(read(r#"{"error":"no"}"#).unwrap_err().to_string(), "has no outputs");
}

#[test]
fn small_messages_are_read_as_they_were_written() {
    use super::super::model::{ModelMetadata, ServerMetadata, TensorMetadata};
    let server =
        ServerMetadata { name: "s\"".to_owned(), version: "1".to_owned(), extensions: vec!["x".to_owned()] };
    assert_eq!(read_server_metadata(&write_server_metadata(&server)).as_ref(), Ok(&server));
    let tensor = TensorMetadata { name: "x".to_owned(), datatype: "FP32".to_owned(), shape: vec![-1, 3] };
    let model = ModelMetadata {
        name: "m".to_owned(),
        versions: vec!["1".to_owned()],
        platform: "p".to_owned(),
        inputs: vec![tensor.clone()],
        outputs: vec![tensor.clone(), tensor],
    };
    assert_eq!(read_model_metadata(&write_model_metadata(&model)).as_ref(), Ok(&model));
    let sparse = read_model_metadata(
        br#"{"name":"m","inputs":[{"name":"x","datatype":"FP32","shape":[1]}],"outputs":[]}"#,
    );
    assert_eq!(sparse.unwrap().inputs.len(), 1);
    for (body, expected) in [
        (&b"[]"[..], "is not an object"),
        (br#"{"name":1}"#, "name: is not a string"),
        (br#"{"inputs":[{"shape":["1"]}]}"#, "inputs[0].shape[0]: is not an integer"),
    ] {
        assert_eq!(read_model_metadata(body).unwrap_err().to_string(), expected);
    }
    assert_eq!((read_ready(&write_live(true)), read_ready(&write_ready(false))), (Some(true), Some(false)));
    assert_eq!((read_ready(&write_model_ready("m", true)), read_ready(b"")), (Some(true), None));
    assert_eq!(read_error(&write_error("no \"model\"")).as_deref(), Some("no \"model\""));
    assert_eq!((read_error(b"{}"), read_error(&json!({"error": 1}).to_string().into_bytes())), (None, None));
}
