//! Owns judging JSON by the part of JSON Schema (2020-12) that our OpenAPI file uses. A keyword that it does not know is a
//! fault: nothing is described that nobody checks.

use serde_json::Value;

/// A description with its `components`, to which `$ref`s lead.
pub struct Document(pub Value);

impl Document {
    /// What `$ref` leads to, or the value itself.
    pub fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        let Some(reference) = value["$ref"].as_str() else { return value };
        let pointer = reference.strip_prefix('#').unwrap_or_else(|| panic!("{reference} leads out of here"));
        self.0.pointer(pointer).unwrap_or_else(|| panic!("{reference} leads nowhere"))
    }

    /// Everything about `value` that is not as `schema` says; `place` is where it stands.
    pub fn faults(&self, schema: &Value, value: &Value, place: &str) -> Vec<String> {
        let mut faults = Vec::new();
        let keywords = schema.as_object().unwrap_or_else(|| panic!("{place}: {schema} is no schema"));
        for (keyword, wanted) in keywords {
            match keyword.as_str() {
                "$ref" => faults.extend(self.faults(self.resolved(schema), value, place)),
                "type" => expect(is_of_type(wanted, value), &mut faults, place, || {
                    format!("{value} is no {wanted}")
                }),
                "enum" => expect(items(wanted).contains(value), &mut faults, place, || {
                    format!("{value} is none of {wanted}")
                }),
                "const" => {
                    expect(value == wanted, &mut faults, place, || format!("{value} is not {wanted}"));
                }
                "minimum" => expect(is_in_order(wanted, value), &mut faults, place, || {
                    format!("{value} is below {wanted}")
                }),
                "maximum" => expect(is_in_order(value, wanted), &mut faults, place, || {
                    format!("{value} is above {wanted}")
                }),
                "format" => {
                    assert_eq!(wanted, "date-time");
                    expect(value.as_str().is_some_and(is_date_time), &mut faults, place, || {
                        format!("{value} is no RFC 3339 time")
                    });
                }
                "oneOf" | "anyOf" => faults.extend(self.alternatives(keyword, wanted, value, place)),
                "required" => faults.extend(
                    items(wanted)
                        .iter()
                        .filter_map(Value::as_str)
                        .filter(|name| value.is_object() && value.get(name).is_none())
                        .map(|name| format!("{place}: there is no {name}")),
                ),
                "properties" => {
                    for (name, schema) in wanted.as_object().unwrap() {
                        if let Some(member) = value.get(name) {
                            faults.extend(self.faults(schema, member, &format!("{place}/{name}")));
                        }
                    }
                }
                "additionalProperties" => {
                    assert_eq!(wanted, false, "{place}: nothing else is understood here");
                    let known = |name: &String| schema["properties"].get(name).is_some();
                    let unknown = value.as_object().into_iter().flat_map(|members| members.keys());
                    let unknown = unknown.filter(|name| !known(name));
                    faults.extend(unknown.map(|name| format!("{place}: nobody has said anything of {name}")));
                }
                "items" => {
                    for (number, item) in value.as_array().into_iter().flatten().enumerate() {
                        faults.extend(self.faults(wanted, item, &format!("{place}/{number}")));
                    }
                }
                "description" => {}
                other => panic!("{place}: the keyword {other} is not known here"),
            }
        }
        faults
    }

    fn alternatives(&self, keyword: &str, wanted: &Value, value: &Value, place: &str) -> Vec<String> {
        let all: Vec<_> = items(wanted).iter().map(|schema| self.faults(schema, value, place)).collect();
        let fitting = all.iter().filter(|faults| faults.is_empty()).count();
        match (keyword, fitting) {
            ("anyOf", 1..) | ("oneOf", 1) => Vec::new(),
            ("oneOf", 2..) => vec![format!("{place}: {value} fits more than one of {wanted}")],
            _ => all.into_iter().flatten().collect(),
        }
    }
}

fn expect(holds: bool, faults: &mut Vec<String>, place: &str, what: impl FnOnce() -> String) {
    if !holds {
        faults.push(format!("{place}: {}", what()));
    }
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice)
}

fn is_of_type(wanted: &Value, value: &Value) -> bool {
    items(wanted).iter().any(|word| match word.as_str().expect("a type is a word") {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{other} is no type"),
    })
}

/// Of what is no number, nothing is said.
fn is_in_order(low: &Value, high: &Value) -> bool {
    low.as_f64().zip(high.as_f64()).is_none_or(|(low, high)| low <= high)
}

/// `2026-01-31T23:59:59.999Z`
fn is_date_time(text: &str) -> bool {
    let form = "0000-00-00T00:00:00.000Z";
    text.len() == form.len()
        && text.bytes().zip(form.bytes()).all(|(byte, form)| match form {
            b'0' => byte.is_ascii_digit(),
            mark => byte == mark,
        })
}
