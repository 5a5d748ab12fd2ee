//! Owns the proofs of what an inference request must look like, and of where it is said to be wrong.

use serde_json::{Value, json};

use super::super::tests::{Random, scan_all_ways};
use super::super::{Invalid, What};

const GOOD: &str = r#"{"name":"a","shape":[2,2],"datatype":"FP32","data":[1,2,3,4]}"#;

fn told(body: &str, random: &mut Random) -> String {
    match scan_all_ways(body.as_bytes(), true, random).result {
        Ok(()) => String::new(),
        Err(invalid) => match invalid.what {
            What::Shape(misshape) => misshape.to_string(),
            other => panic!("{body}: {other:?}"),
        },
    }
}

#[test]
fn requests_of_every_kind_pass() {
    let mut random = Random::new();
    for body in [
        r#"{"inputs":[GOOD]}"#,
        r#" { "id" : "42" , "parameters" : {} , "inputs" : [ GOOD , GOOD ] , "outputs" : [ { "name" : "x" } ] } "#,
        r#"{"id":null,"outputs":[],"inputs":[GOOD]}"#,
        r#"{"id":null,"parameters":null,"outputs":null,"inputs":[GOOD]}"#,
        r#"{"inputs":[{"name":"a","shape":[1],"datatype":"FP32","parameters":null,"data":[1]}],"outputs":[{"name":"b","parameters":null}]}"#,
        r#"{"inputs":[{"data":[[1.5,-2],[3,4]],"datatype":"FP64","shape":[2,2],"name":"a"}]}"#,
        r#"{"inputs":[{"name":"","shape":[],"datatype":"BYTES","data":["a","b"]}]}"#,
        r#"{"inputs":[{"name":"a","shape":[0],"datatype":"BOOL","data":true}]}"#,
        r#"{"inputs":[{"name":"a","shape":[1],"data\u0074ype":"BF\u00316","d\u0061ta":[1]}]}"#,
        r#"{"inputs":[{"name":"a","shape":[1],"datatype":"INT8","parameters":{"binary_data_size":1}}]}"#,
        r#"{"inputs":[{"name":"a","shape":[1],"datatype":"INT8","parameters":{"x":{"y":1},"shared_memory_region":"r"}}]}"#,
        r#"{"inputs":[GOOD],"outputs":[{"name":"x","parameters":{"binary_data":true}}],"more":[{"inputs":1}]}"#,
        r#"{"inputs":[{"name":"a","shape":[1],"datatype":"INT8","data":[{"shape":-1,"datatype":7}],"shapes":[-1]}]}"#,
        r#"{"model":"m","inputs":[GOOD]}"#,
    ] {
        let body = body.replace("GOOD", GOOD);
        assert_eq!(told(&body, &mut random), "", "{body}");
    }
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let mut random = Random::new();
    for (body, expected) in [
        ("[]", "it is not an object"),
        ("1", "it is not an object"),
        ("{}", "it has no inputs"),
        (r#"{"outputs":[],"n":{"inputs":[GOOD]}}"#, "it has no inputs"),
        (r#"{"inputs":[]}"#, "it has inputs that are empty"),
        (r#"{"inputs":{}}"#, "it has inputs that are not an array"),
        (r#"{"inputs":null}"#, "it has inputs that are not an array"),
        (r#"{"inputs":[GOOD],"inputs":1}"#, "it has inputs that are not an array"),
        (r#"{"id":1,"inputs":[GOOD]}"#, "it has an id that is not a string"),
        (r#"{"parameters":[],"inputs":[GOOD]}"#, "it has parameters that are not an object"),
        (r#"{"outputs":{},"inputs":[GOOD]}"#, "it has outputs that are not an array"),
        (r#"{"inputs":[GOOD,1]}"#, "inputs[1] is not an object"),
        (r#"{"inputs":[[]]}"#, "inputs[0] is not an object"),
        (r#"{"inputs":[GOOD,GOOD,{}]}"#, "inputs[2] has no name"),
        (r#"{"inputs":[GOOD,{"name":7}]}"#, "inputs[1] has a name that is not a string"),
        (r#"{"inputs":[{"name":"a","datatype":"INT8","data":[]}]}"#, "inputs[0] has no shape"),
        (r#"{"inputs":[GOOD,GOOD,{"name":"a","shape":[],"data":[]}]}"#, "inputs[2] has no datatype"),
        (r#"{"inputs":[{"name":"a","shape":[],"datatype":"INT8"}]}"#, "inputs[0] has no data"),
        (
            r#"{"inputs":[{"name":"a","shape":[],"datatype":"INT8","parameters":{"n":{"binary_data_size":1}}}]}"#,
            "inputs[0] has no data",
        ),
        (
            r#"{"inputs":[{"name":"a","shape":[],"datatype":"INT8","binary_data_size":1}]}"#,
            "inputs[0] has no data",
        ),
        (r#"{"inputs":[{"datatype":"int8"}]}"#, "inputs[0] has an unknown datatype"),
        (r#"{"inputs":[{"datatype":"INT8 "}]}"#, "inputs[0] has an unknown datatype"),
        (r#"{"inputs":[{"datatype":""}]}"#, "inputs[0] has an unknown datatype"),
        (r#"{"inputs":[{"datatype":8}]}"#, "inputs[0] has a datatype that is not a string"),
        (r#"{"inputs":[{"shape":4}]}"#, super::NO_SHAPE),
        (r#"{"inputs":[{"shape":[1,-1]}]}"#, super::NO_SHAPE),
        (r#"{"inputs":[{"shape":[-0]}]}"#, super::NO_SHAPE),
        (r#"{"inputs":[{"shape":[1.0]}]}"#, super::NO_SHAPE),
        (r#"{"inputs":[{"shape":[1e2]}]}"#, super::NO_SHAPE),
        (r#"{"inputs":[{"shape":["1"]}]}"#, super::NO_SHAPE),
        (r#"{"inputs":[{"shape":[[1]]}]}"#, super::NO_SHAPE),
        (r#"{"inputs":[{"parameters":[]}]}"#, "inputs[0] has parameters that are not an object"),
        (r#"{"inputs":[GOOD],"outputs":[{"name":"a"},{}]}"#, "outputs[1] has no name"),
        (r#"{"inputs":[GOOD],"outputs":["a"]}"#, "outputs[0] is not an object"),
        (r#"{"inputs":[GOOD],"outputs":[{"name":null}]}"#, "outputs[0] has a name that is not a string"),
        (
            r#"{"inputs":[GOOD],"outputs":[{"parameters":1}]}"#,
            "outputs[0] has parameters that are not an object",
        ),
    ] {
        let body = body.replace("GOOD", GOOD);
        let told = told(&body, &mut random);
        let is_short = expected == super::NO_SHAPE;
        let told = if is_short { told.strip_prefix("inputs[0] ").unwrap_or(&told) } else { &told };
        assert_eq!(told, expected, "{body}");
    }
}

#[test]
fn long_names_and_datatypes_are_no_others() {
    let mut random = Random::new();
    let long = "x".repeat(300);
    let body = format!(r#"{{"{long}":1,"inputs":[{{"name":"{long}","{long}":[],"datatype":"{long}"}}]}}"#);
    assert_eq!(told(&body, &mut random), "inputs[0] has an unknown datatype");
}

#[test]
fn generated_requests_are_judged_as_their_tree_is() {
    let (mut random, mut good) = (Random::new(), 0);
    for _ in 0..20_000 {
        let request = request(&mut random);
        let body = match random.below(2) {
            0 => request.to_string(),
            _ => serde_json::to_string_pretty(&request).unwrap(),
        };
        let result = scan_all_ways(body.as_bytes(), true, &mut random).result;
        assert_eq!(result.is_ok(), is_request(&request), "{body}: {result:?}");
        assert!(result.is_ok() || matches!(result, Err(Invalid { what: What::Shape(_), .. })));
        good += usize::from(result.is_ok());
    }
    assert!((2_000..18_000).contains(&good), "{good} of them are good");
}

/// Mostly right.
fn request(random: &mut Random) -> Value {
    let mut request = json!({});
    let inputs: Vec<Value> = (0..random.below(4)).map(|_| input(random)).collect();
    let outputs: Vec<Value> = (0..random.below(3)).map(|_| member(random, "name", json!("o"))).collect();
    set(&mut request, random, "inputs", json!(inputs), 40);
    set(&mut request, random, "outputs", json!(outputs), 3);
    set(&mut request, random, "id", json!("1"), 3);
    set(&mut request, random, "parameters", json!({"a": 1}), 3);
    request
}

fn input(random: &mut Random) -> Value {
    let mut input = member(random, "name", json!("i"));
    set(&mut input, random, "shape", json!([1, 2]), 40);
    let datatype = random.choose(&["FP32", "INT8", "BYTES"]);
    set(&mut input, random, "datatype", json!(datatype), 40);
    set(&mut input, random, "data", json!([1, [2.5, "a"]]), 20);
    let place = random.choose(&["binary_data_size", "shared_memory_region", "other"]);
    set(&mut input, random, "parameters", json!({ place: 1 }), 3);
    input
}

fn member(random: &mut Random, name: &str, value: Value) -> Value {
    let mut object = json!({});
    set(&mut object, random, name, value, 40);
    object
}

/// Leaves it out once in `rarity`, and makes it wrong, or at least odd, once in 40.
fn set(object: &mut Value, random: &mut Random, name: &str, value: Value, rarity: usize) {
    let odd = [
        json!(null),
        json!("odd"),
        json!(-1),
        json!([-1]),
        json!([1.5]),
        json!({"a": 1}),
        json!([]),
        json!(7),
    ];
    match (random.below(rarity), random.below(40)) {
        (0, _) => {}
        (_, 0) => object[name] = odd[random.below(odd.len())].clone(),
        _ => object[name] = value,
    }
}

fn is_request(request: &Value) -> bool {
    let is_array_of = |name: &str, is_item: fn(&Value) -> bool| {
        request[name].as_array().is_some_and(|items| items.iter().all(is_item))
    };
    is_array_of("inputs", is_input)
        && request["inputs"] != json!([])
        && (request["outputs"].is_null() || is_array_of("outputs", |output| output["name"].is_string()))
        && matches!(request["id"], Value::Null | Value::String(_))
        && has_parameters_or_none(request)
}

fn is_input(input: &Value) -> bool {
    let is_elsewhere = |name| input["parameters"].get(name).is_some();
    input["name"].is_string()
        && input["shape"].as_array().is_some_and(|shape| shape.iter().all(Value::is_u64))
        && input["datatype"].as_str().is_some_and(|datatype| super::DATATYPES.contains(&datatype))
        && (input.get("data").is_some()
            || is_elsewhere("binary_data_size")
            || is_elsewhere("shared_memory_region"))
        && has_parameters_or_none(input)
}

fn has_parameters_or_none(object: &Value) -> bool {
    matches!(object["parameters"], Value::Null | Value::Object(_))
}
