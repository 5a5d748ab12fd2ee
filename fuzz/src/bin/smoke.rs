//! Runs the fuzz targets on a stable compiler: mutates their seeds with a fixed pseudo-random sequence for
//! some seconds and reports the first input that panics, in hex. Knows nothing of coverage: it finds what is near
//! the seeds; libFuzzer (see Cargo.toml) finds the rest.
//!
//! Usage: `smoke [--seconds N] [TARGET...]`, or `smoke --replay HEX TARGET`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tidegate_fuzz::{TARGETS, Target};

fn main() -> ExitCode {
    let mut seconds = 10;
    let mut replay = None;
    let mut chosen: Vec<&Target> = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seconds" => match arguments.next().and_then(|text| text.parse().ok()) {
                Some(number) => seconds = number,
                None => return usage("--seconds needs a whole number"),
            },
            "--replay" => match arguments.next().as_deref().and_then(from_hex) {
                Some(input) => replay = Some(input),
                None => return usage("--replay needs an input in hex"),
            },
            name => match TARGETS.iter().find(|target| target.name == name) {
                Some(target) => chosen.push(target),
                None => return usage(&format!("no target {name}")),
            },
        }
    }
    if chosen.is_empty() {
        chosen = TARGETS.iter().collect();
    }
    if let Some(input) = replay {
        chosen.iter().for_each(|target| (target.check)(&input));
        return ExitCode::SUCCESS;
    }
    let budget = Duration::from_secs(seconds) / chosen.len() as u32;
    let passed = chosen.iter().filter(|target| run(target, budget)).count();
    if passed == chosen.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn usage(problem: &str) -> ExitCode {
    let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
    eprintln!(
        "{problem}\nusage: smoke [--seconds N] [--replay HEX] [TARGET...]\ntargets: {}",
        names.join(" ")
    );
    ExitCode::from(2)
}

/// Every seed as it is, then mutations until the time is up. `true` if nothing panicked.
fn run(target: &Target, budget: Duration) -> bool {
    let seeds = seeds(target.name);
    let (start, mut executions, mut random) = (Instant::now(), 0u64, Random(0x9e37_79b9_7f4a_7c15));
    let mut mutations = std::iter::repeat_with(|| random.mutate(&seeds));
    for input in seeds.iter().cloned().chain(&mut mutations) {
        if executions % 256 == 0 && start.elapsed() > budget {
            break;
        }
        executions += 1;
        if catch_unwind(AssertUnwindSafe(|| (target.check)(&input))).is_err() {
            println!("{}: FAILED after {executions} executions", target.name);
            println!("replay with: smoke --replay {} {}", to_hex(&input), target.name);
            return false;
        }
    }
    println!("{}: {executions} executions from {} seeds", target.name, seeds.len());
    true
}

/// The files in `seeds/<name>/` in order, so that runs are alike.
fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let seeds: Vec<_> = paths.iter().filter_map(|path| std::fs::read(path).ok()).collect();
    assert!(!seeds.is_empty(), "{} holds no seeds", folder.display());
    seeds
}

/// Marsaglia's xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }

    fn mutate(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut input = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(6) {
            self.mutate_once(&mut input, seeds);
        }
        input
    }

    fn mutate_once(&mut self, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        /// Bytes that mean something in the formats at hand.
        const BYTES: &[u8] = b"\r\n\r\n \t:;,.\0\x7f\x80\xff_-+/?#%&=\"'\\()[]{}<>@*0123456789abcfxAFX";
        const LEN_MAX: usize = 4096;
        let (place, other) = (self.below(input.len() + 1), self.below(input.len() + 1));
        let (low, high) = (place.min(other), place.max(other));
        let byte = if self.below(4) == 0 { self.below(256) as u8 } else { BYTES[self.below(BYTES.len())] };
        match self.below(8) {
            0 | 1 if place < input.len() => input[place] = byte,
            2 | 3 => input.insert(place, byte),
            4 if place < input.len() => input[place] ^= 1 << self.below(8),
            5 => drop(input.drain(low..high.min(low + 16))),
            6 => {
                let copy = input[low..high].to_vec();
                input.splice(place..place, copy);
            }
            _ => {
                let seed = &seeds[self.below(seeds.len())];
                let (from, to) = (self.below(seed.len() + 1), self.below(seed.len() + 1));
                input.splice(place..place, seed[from.min(to)..from.max(to)].iter().copied());
            }
        }
        input.truncate(LEN_MAX);
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect();
    Some(digits?.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
}
