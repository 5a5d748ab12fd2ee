//! Owns a strict reader of the Prometheus text format 0.0.4: HELP and TYPE before their samples, one family in
//! one block, no sample twice, histograms cumulative and complete. Fetches nothing.

use std::collections::{BTreeMap, BTreeSet};

/// Labels of one sample, sorted by name.
pub type Labels = BTreeMap<String, String>;

#[derive(Debug, Clone)]
pub struct Sample {
    pub name: String,
    pub labels: Labels,
    pub value: f64,
}

#[derive(Debug, Default, Clone)]
pub struct Metrics {
    pub samples: Vec<Sample>,
    /// Family → type.
    pub types: BTreeMap<String, String>,
    pub helps: BTreeMap<String, String>,
}

impl Metrics {
    pub fn parse(text: &str) -> Result<Metrics, String> {
        let mut metrics = Metrics::default();
        let mut seen = BTreeSet::new();
        let mut closed: BTreeSet<String> = BTreeSet::new();
        let mut family = String::new();
        if !text.is_empty() && !text.ends_with('\n') {
            return Err("the last line has no end".into());
        }
        for line in text.lines().filter(|line| !line.is_empty()) {
            let name = metrics.take_line(line, &mut seen)?;
            if name != family {
                closed.insert(std::mem::replace(&mut family, name.clone()));
                if closed.contains(&name) {
                    return Err(format!("family {name} comes in two blocks"));
                }
            }
        }
        metrics.check_histograms()?;
        Ok(metrics)
    }

    /// The sum of all samples of this name that carry these labels; 0 if there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(name, labels).map(|sample| sample.value).sum()
    }

    pub fn has(&self, name: &str) -> bool {
        self.samples.iter().any(|sample| sample.name == name)
    }

    pub fn matching<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| {
            let has =
                |(key, value): &(&str, &str)| sample.labels.get(*key).is_some_and(|found| found == value);
            sample.name == name && labels.iter().all(has)
        })
    }

    /// Takes one line in and says which family it belongs to.
    fn take_line(&mut self, line: &str, seen: &mut BTreeSet<String>) -> Result<String, String> {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').ok_or(format!("HELP without text: {line:?}"))?;
            return match self.helps.insert(name.into(), help.into()) {
                Some(_) => Err(format!("two HELP lines for {name}")),
                None => Ok(name.into()),
            };
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or(format!("TYPE without type: {line:?}"))?;
            if !["counter", "gauge", "histogram", "summary", "untyped"].contains(&kind) {
                return Err(format!("type {kind:?}"));
            }
            return match self.types.insert(name.into(), kind.into()) {
                Some(_) => Err(format!("two TYPE lines for {name}")),
                None => Ok(name.into()),
            };
        }
        if line.starts_with('#') {
            return Err(format!("a comment that is neither HELP nor TYPE: {line:?}"));
        }
        let sample = parse_sample(line)?;
        if !seen.insert(format!("{}{:?}", sample.name, sample.labels)) {
            return Err(format!("a sample twice: {line:?}"));
        }
        let family = self.family_of(&sample.name).ok_or(format!("a sample without TYPE: {line:?}"))?;
        if !self.helps.contains_key(&family) {
            return Err(format!("a sample without HELP: {line:?}"));
        }
        if self.types[&family] == "counter" && (sample.value.is_nan() || sample.value < 0.0) {
            return Err(format!("a counter below zero: {line:?}"));
        }
        self.samples.push(sample);
        Ok(family)
    }

    fn family_of(&self, name: &str) -> Option<String> {
        if self.types.contains_key(name) {
            return Some(name.into());
        }
        let stem = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix))?;
        let kind = self.types.get(stem)?;
        (kind == "histogram" || (kind == "summary" && !name.ends_with("_bucket"))).then(|| stem.into())
    }

    fn check_histograms(&self) -> Result<(), String> {
        for (family, _) in self.types.iter().filter(|(_, kind)| *kind == "histogram") {
            let mut series: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
            for sample in self.matching(&format!("{family}_bucket"), &[]) {
                let mut labels = sample.labels.clone();
                let bound = labels.remove("le").ok_or(format!("{family}: a bucket without le"))?;
                series.entry(format!("{labels:?}")).or_default().push((number(&bound)?, sample.value));
            }
            for (labels, buckets) in &series {
                let ordered = buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
                let last = buckets.last().expect("entered with a bucket");
                let name = format!("{family}_count");
                let mut counts = self.matching(&name, &[]);
                let count = counts.find(|sample| format!("{:?}", sample.labels) == *labels).map(|s| s.value);
                if !ordered || last.0 != f64::INFINITY || count != Some(last.1) {
                    return Err(format!("{family}{labels}: buckets {buckets:?}, count {count:?}"));
                }
            }
        }
        Ok(())
    }
}

fn parse_sample(line: &str) -> Result<Sample, String> {
    let wrong = |what: &str| format!("{what} in {line:?}");
    let name_end = line.find(['{', ' ']).ok_or_else(|| wrong("no value"))?;
    let name = &line[..name_end];
    if !is_name(name, true) {
        return Err(wrong("bad metric name"));
    }
    let (labels, rest) = match line[name_end..].strip_prefix('{') {
        Some(inside) => parse_labels(inside).map_err(|reason| wrong(&reason))?,
        None => (Labels::new(), &line[name_end..]),
    };
    let value = rest.strip_prefix(' ').ok_or_else(|| wrong("no single space before the value"))?;
    Ok(Sample { name: name.into(), labels, value: number(value).map_err(|reason| wrong(&reason))? })
}

/// Labels after the opening brace, and what follows the closing one.
fn parse_labels(mut rest: &str) -> Result<(Labels, &str), String> {
    let mut labels = Labels::new();
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return Ok((labels, after));
        }
        let (name, after) = rest.split_once("=\"").ok_or("no label value")?;
        let (value, after) = parse_quoted(after)?;
        if !is_name(name, false) || labels.insert(name.into(), value).is_some() {
            return Err(format!("bad or repeated label {name:?}"));
        }
        rest = after.strip_prefix(',').unwrap_or(after);
        if !after.starts_with([',', '}']) {
            return Err("no comma between labels".into());
        }
    }
}

fn parse_quoted(text: &str) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((index, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &text[index + 1..])),
            '\\' => match chars.next().map(|(_, escaped)| escaped) {
                Some('n') => value.push('\n'),
                Some(escaped @ ('\\' | '"')) => value.push(escaped),
                other => return Err(format!("bad escape {other:?}")),
            },
            _ => value.push(c),
        }
    }
    Err("an open label value".into())
}

fn is_name(name: &str, colon: bool) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || (colon && c == ':');
    !name.is_empty() && name.chars().all(fits) && !name.starts_with(|c: char| c.is_ascii_digit())
}

fn number(text: &str) -> Result<f64, String> {
    match text {
        "+Inf" => Ok(f64::INFINITY),
        "-Inf" => Ok(f64::NEG_INFINITY),
        "NaN" => Ok(f64::NAN),
        _ if text.bytes().any(|byte| byte.is_ascii_whitespace()) => Err(format!("{text:?} is no number")),
        _ => text.parse().map_err(|_| format!("{text:?} is no number")),
    }
}
