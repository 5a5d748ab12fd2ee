//! What /proc says: processes and their families, CPU time, memory, and whether others used our cores.
//! Reads only. Times are nanoseconds; a process that ended meanwhile counts as nothing.

use std::fs;
use std::time::Instant;

use crate::sys;

/// A process told from a later one with the same pid by when it started.
pub struct ProcessId {
    pub pid: u32,
    started: u64,
}

impl ProcessId {
    pub fn of(pid: u32) -> Option<Self> {
        Some(Self { pid, started: Stat::read(pid)?.started })
    }

    pub fn is_alive(&self) -> bool {
        Stat::read(self.pid).is_some_and(|stat| stat.started == self.started && stat.state != 'Z')
    }
}

pub fn exists(pid: u32) -> bool {
    Stat::read(pid).is_some()
}

/// The process and all that descend from it.
pub fn tree(root: u32) -> Vec<u32> {
    let all: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, Stat::read(pid)?.parent)))
        .collect();
    let mut family = vec![root];
    let mut next = 0;
    while next < family.len() {
        let parent = family[next];
        family.extend(all.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    family
}

/// User and system time of the process, its threads, its descendants, and those of them that ended.
pub fn cpu_ns(root: u32) -> u64 {
    let tick_ns = 1_000_000_000 / sys::clock_ticks();
    tree(root)
        .into_iter()
        .map(|pid| {
            // The same sum as utime + stime of /proc/PID/stat, but not rounded to ticks.
            let own = sys::cpu_time_ns(pid).unwrap_or(0);
            own + Stat::read(pid).map_or(0, |stat| stat.reaped_ticks * tick_ns)
        })
        .sum()
}

/// Resident memory of the process and its descendants; pages that they share count for each.
pub fn rss_bytes(root: u32) -> u64 {
    tree(root).into_iter().filter_map(rss_of).sum()
}

fn rss_of(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Watches the cores of a measurement for CPU time that none of our processes used.
pub struct Watch {
    cores: Vec<usize>,
    begin: Instant,
    busy_ns: u64,
    own_ns: u64,
}

impl Watch {
    pub fn start(cores: &[usize]) -> Self {
        let own_ns = cpu_ns(std::process::id());
        Self { cores: cores.to_vec(), busy_ns: busy_ns(cores), own_ns, begin: Instant::now() }
    }

    /// The part of our cores' time, 0 to 1, that somebody else had since the start (stolen time too).
    pub fn foreign_share(&self) -> f64 {
        let wall_ns = self.begin.elapsed().as_nanos() as f64 * self.cores.len() as f64;
        let busy = busy_ns(&self.cores) - self.busy_ns;
        let own = cpu_ns(std::process::id()) - self.own_ns;
        (busy.saturating_sub(own) as f64 / wall_ns).min(1.0)
    }
}

/// Everything but idle and waiting for disks.
fn busy_ns(cores: &[usize]) -> u64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let tick_ns = 1_000_000_000 / sys::clock_ticks();
    let ticks: u64 = text.lines().filter_map(|line| busy_ticks(line, cores)).sum();
    ticks * tick_ns
}

/// proc(5): cpuN user nice system idle iowait irq softirq steal guest …; guest is part of user.
fn busy_ticks(line: &str, cores: &[usize]) -> Option<u64> {
    let mut fields = line.strip_prefix("cpu")?.split_ascii_whitespace();
    let core: usize = fields.next()?.parse().ok()?;
    if !cores.contains(&core) || !line.starts_with(&format!("cpu{core} ")) {
        return None;
    }
    let times: Vec<u64> = fields.filter_map(|field| field.parse().ok()).collect();
    Some(
        times
            .iter()
            .enumerate()
            .filter(|(index, _)| [0, 1, 2, 5, 6, 7].contains(index))
            .map(|(_, time)| time)
            .sum(),
    )
}

/// The fields of /proc/PID/stat that we use.
struct Stat {
    state: char,
    parent: u32,
    /// User and system time of children that were waited for.
    reaped_ticks: u64,
    started: u64,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may hold spaces and brackets, so fields count from its last bracket; the next one is field 3.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Self {
            state: fields.first()?.chars().next()?,
            parent: number(4)? as u32,
            reaped_ticks: number(16)? + number(17)?,
            started: number(22)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_is_seen() {
        let pid = std::process::id();
        assert!(tree(pid).contains(&pid) && rss_bytes(pid) > 100_000);
        assert!(ProcessId::of(pid).is_some_and(|own| own.is_alive()));
    }

    #[test]
    fn busy_time_leaves_out_idle_and_other_cores() {
        let line = "cpu1 1 2 4 1000 1000 8 16 32 64 128";
        assert_eq!(busy_ticks(line, &[0, 1]), Some(63));
        assert_eq!(busy_ticks(line, &[0, 11]), None);
        assert_eq!(busy_ticks("cpu  1 2 4 8 1 1 1 1 1 1", &[1]), None);
    }
}
