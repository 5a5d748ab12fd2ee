//! What the samples say: medians and spreads as Markdown tables and as JSON.
//! Only clean samples count; figures from noisy ones are shown, marked, when there is nothing else.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::case::{Case, Metric};
use super::measure::Sample;
use super::plan::Plan;
use crate::peers::{Peer, Programs};

const BEGIN: &str = "<!-- begin:loadtest -->";
const END: &str = "<!-- end -->";

pub struct Run {
    cases: Vec<CaseResult>,
    command: String,
    date: String,
    machine: String,
    /// Clean samples wanted of each peer.
    rounds: usize,
    versions: BTreeSet<String>,
}

pub struct CaseResult {
    pub case: &'static Case,
    pub peers: Vec<PeerResult>,
}

pub struct PeerResult {
    pub peer: Peer,
    pub clean: Vec<Sample>,
    /// The last repeat of rounds in which no sample was clean.
    pub dirty: Vec<Sample>,
    pub discarded: usize,
    pub failure: Option<String>,
}

impl Run {
    pub fn new(
        cases: Vec<CaseResult>,
        rounds: usize,
        programs: &Programs,
        words: &[String],
        plan: &Plan,
    ) -> Self {
        let peers = cases.iter().flat_map(|case| &case.peers).map(|result| result.peer);
        let mut versions: BTreeSet<String> = peers.filter_map(|peer| programs.version(peer)).collect();
        versions.extend(programs.wrk_version());
        Self {
            cases,
            command: std::iter::once("loadtest/run")
                .chain(words.iter().map(String::as_str))
                .collect::<Vec<_>>()
                .join(" "),
            date: said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
            machine: format!("{}; {}", machine_name(), plan.in_words()),
            rounds,
            versions,
        }
    }

    pub fn failures(&self) -> impl Iterator<Item = (&Case, Peer, &str)> {
        self.cases.iter().flat_map(|case| {
            case.peers.iter().filter_map(|peer| Some((case.case, peer.peer, peer.failure.as_deref()?)))
        })
    }

    /// Every figure comes from as many clean samples as were asked for, without errors.
    pub fn is_clean(&self) -> bool {
        let mut results = self.cases.iter().flat_map(|case| &case.peers);
        results.all(|result| {
            result.failure.is_none() && result.clean.len() >= self.rounds && result.errors() == 0
        })
    }
}

impl PeerResult {
    pub fn new(peer: Peer) -> Self {
        Self { peer, clean: Vec::new(), dirty: Vec::new(), discarded: 0, failure: None }
    }

    /// A peer that failed once is not tried again, and extra rounds are for those that were clean at least once.
    pub fn wants_sample(&self, extra: bool, rounds: usize) -> bool {
        self.failure.is_none() && (!extra || (1..rounds).contains(&self.clean.len()))
    }

    fn counted(&self) -> &[Sample] {
        if self.clean.is_empty() { &self.dirty } else { &self.clean }
    }

    fn errors(&self) -> u64 {
        self.counted().iter().map(|sample| sample.errors).sum()
    }

    fn spread(&self, metric: usize) -> Option<Spread> {
        Spread::of(self.counted().iter().map(|sample| sample.values[metric]))
    }
}

struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Some(Self { median, min, max })
    }
}

/// One line while it runs.
pub fn progress(case: &Case, sample: &Sample) -> String {
    let figures: Vec<String> = case
        .metrics
        .iter()
        .zip(&sample.values)
        .map(|(metric, value)| format!("{} {value:.*}", metric.label(), metric.decimals()))
        .collect();
    let errors = if sample.errors > 0 { format!(", {} ERRORS", sample.errors) } else { String::new() };
    let note = sample.note.as_ref().map(|note| format!(", {note}")).unwrap_or_default();
    format!(
        "{}, others {:.0} %, slow {:.0} %{errors}{note}",
        figures.join(", "),
        100.0 * sample.foreign_share,
        100.0 * sample.slow_share
    )
}

pub fn markdown(run: &Run) -> String {
    let mut text = format!("Taken {} with `{}`\non {}.\n", run.date, run.command, run.machine);
    let versions: Vec<&str> = run.versions.iter().map(String::as_str).collect();
    let _ = writeln!(text, "Versions: {}.", versions.join("; "));
    for case in &run.cases {
        let _ = write!(text, "\n### {}\n\n{}", case.case.title, table(case));
    }
    text
}

fn table(result: &CaseResult) -> String {
    let metrics = result.case.metrics;
    let labels: Vec<&str> = metrics.iter().map(|metric| metric.label()).collect();
    let mut text = format!("| peer | {} | ratio to nginx | rounds | remarks |\n|---|", labels.join(" | "));
    text.push_str(&"---:|".repeat(metrics.len() + 2));
    text.push_str("---|\n");
    for peer in &result.peers {
        let cells: Vec<String> =
            metrics.iter().enumerate().map(|(index, metric)| cell(*metric, peer.spread(index))).collect();
        let ratio = ratio_to_nginx(result, peer).map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
        let rounds = peer.counted().len();
        let _ = writeln!(
            text,
            "| {} | {} | {ratio} | {rounds} | {} |",
            peer.peer.name(),
            cells.join(" | "),
            remarks(peer)
        );
    }
    text
}

fn cell(metric: Metric, spread: Option<Spread>) -> String {
    let Some(Spread { median, min, max }) = spread else { return "-".to_owned() };
    let digits = metric.decimals();
    if min == max {
        return format!("{median:.digits$}");
    }
    format!("{median:.digits$} ({min:.digits$}–{max:.digits$})")
}

fn ratio_to_nginx(result: &CaseResult, peer: &PeerResult) -> Option<f64> {
    let nginx = result.peers.iter().find(|other| other.peer == Peer::Nginx)?.spread(0)?.median;
    Some(peer.spread(0)?.median / nginx).filter(|ratio| ratio.is_finite())
}

fn remarks(peer: &PeerResult) -> String {
    let mut remarks = Vec::new();
    if let Some(failure) = &peer.failure {
        let line = failure.lines().next().unwrap_or_default();
        remarks.push(format!("**failed**: {}", line.replace('|', "/")));
    }
    if peer.clean.is_empty() && !peer.dirty.is_empty() {
        remarks.push("**noisy**: the machine was not ours alone".to_owned());
    }
    if peer.errors() > 0 {
        remarks.push(format!("**{} errors**", peer.errors()));
    }
    remarks.extend(peer.counted().last().and_then(|sample| sample.note.clone()));
    remarks.join("; ")
}

pub fn json(run: &Run) -> Value {
    let cases: Vec<Value> = run
        .cases
        .iter()
        .map(|result| {
            let peers: Vec<Value> = result.peers.iter().map(|peer| peer_json(result, peer)).collect();
            json!({ "name": result.case.name, "title": result.case.title, "peers": peers })
        })
        .collect();
    json!({
        "schema": 1,
        "date": run.date,
        "command": run.command,
        "machine": run.machine,
        "versions": run.versions,
        "clean": run.is_clean(),
        "cases": cases,
    })
}

fn peer_json(result: &CaseResult, peer: &PeerResult) -> Value {
    let mut figures = serde_json::Map::new();
    for (index, metric) in result.case.metrics.iter().enumerate() {
        if let Some(Spread { median, min, max }) = peer.spread(index) {
            figures.insert(metric.key().to_owned(), json!({ "median": median, "min": min, "max": max }));
        }
    }
    let sample_json = |sample: &Sample, clean: bool| {
        let values: serde_json::Map<String, Value> = result
            .case
            .metrics
            .iter()
            .zip(&sample.values)
            .map(|(m, value)| (m.key().to_owned(), json!(value)))
            .collect();
        json!({
            "clean": clean,
            "values": values,
            "requests": sample.requests,
            "errors": sample.errors,
            "foreign_share": sample.foreign_share,
            "slow_share": sample.slow_share,
            "note": sample.note,
        })
    };
    let clean = peer.clean.iter().map(|sample| sample_json(sample, true));
    let samples: Vec<Value> =
        clean.chain(peer.dirty.iter().map(|sample| sample_json(sample, false))).collect();
    json!({
        "name": peer.peer.name(),
        "figures": figures,
        "ratio_to_nginx": ratio_to_nginx(result, peer),
        "discarded_samples": peer.discarded,
        "failure": peer.failure,
        "samples": samples,
    })
}

/// Replaces what stands between the markers and leaves the rest of the file as people wrote it.
pub fn write_between_markers(path: &Path, run: &Run) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let text = fs::read_to_string(path).map_err(failed)?;
    let replaced = replace_between_markers(&text, &markdown(run))
        .ok_or_else(|| format!("{}: no `{BEGIN}` followed by `{END}`", path.display()))?;
    fs::write(path, replaced).map_err(failed)
}

fn replace_between_markers(text: &str, generated: &str) -> Option<String> {
    let begin = text.find(BEGIN)? + BEGIN.len();
    let end = begin + text[begin..].find(END)?;
    Some(format!("{}\n{generated}{}", &text[..begin], &text[end..]))
}

/// The machine's processor, cores and kernel.
pub fn machine_name() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("an unknown CPU", |(_, name)| name.trim());
    let count = info.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = said("uname", &["-r"]);
    format!("{model}, {count} cores, Linux {kernel}")
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_generated_part_changes() {
        let text = format!("# Title\n{BEGIN}\nold\n{END}\nend\n");
        let replaced = replace_between_markers(&text, "new\n").unwrap();
        assert_eq!(replaced, format!("# Title\n{BEGIN}\nnew\n{END}\nend\n"));
        assert_eq!(replace_between_markers("no markers", "new"), None);
    }

    #[test]
    fn medians_ignore_what_is_no_figure() {
        let spread = Spread::of([3.0, f64::NAN, 1.0, 2.0].into_iter()).unwrap();
        assert_eq!((spread.median, spread.min, spread.max), (2.0, 1.0, 3.0));
        assert!(Spread::of(std::iter::empty()).is_none());
    }
}
