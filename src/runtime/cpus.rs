//! Owns the answer to "how many workers, and on which cores": the affinity mask of this process cut by the
//! cgroup's CPU quota. Pins threads. Starts none.

use std::fs;
use std::io;

use rustix::thread::{CpuSet, sched_setaffinity};

/// The cores this process may use, ascending; from sched_getaffinity(2).
pub fn allowed() -> Vec<usize> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let cpus = list.map(|list| parse_list(list.trim())).unwrap_or_default();
    if cpus.is_empty() {
        let count = std::thread::available_parallelism().map_or(1, |count| count.get());
        return (0..count).collect();
    }
    cpus
}

/// Workers for `workers = "auto"`: one per allowed core, at most the cgroup quota rounded up.
pub fn worker_count() -> usize {
    let allowed = allowed().len().max(1);
    match cgroup_quota() {
        Some(quota) => allowed.min(quota.ceil().max(1.0) as usize),
        None => allowed,
    }
}

/// Pins the calling thread. Errors: the kernel's, when the core left the mask meanwhile.
pub fn pin_current_thread(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

/// From now on the calling thread has what others leave of a core: one that wakes takes it from one of SCHED_IDLE at once. Niceness does not
/// do that: since Linux 6.6 the one that runs keeps the core for its slice, until the next tick, whatever its weight; a worker waited
/// 5 ms. Needs no privilege, so it fails only where a sandbox forbids it.
pub fn give_way() {
    let nothing = libc::sched_param { sched_priority: 0 };
    // SAFETY: 0 is the calling thread; the kernel reads `nothing`, a whole and valid struct, and keeps no pointer.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &nothing) };
}

/// CPUs that the cgroup grants per period, e.g. 1.5; `None` without a quota. cgroup v2 first, then v1.
fn cgroup_quota() -> Option<f64> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let v2 = groups.lines().find_map(|line| line.strip_prefix("0::")).and_then(quota_v2);
    v2.or_else(quota_v1)
}

/// The tightest `cpu.max` from the process's own group up to the root.
fn quota_v2(group: &str) -> Option<f64> {
    let mut tightest: Option<f64> = None;
    let mut path = std::path::PathBuf::from("/sys/fs/cgroup").join(group.trim_start_matches('/'));
    while path.starts_with("/sys/fs/cgroup") {
        let quota = fs::read_to_string(path.join("cpu.max")).ok().and_then(|text| parse_cpu_max(&text));
        if let Some(quota) = quota {
            tightest = Some(tightest.map_or(quota, |least| least.min(quota)));
        }
        if !path.pop() {
            break;
        }
    }
    tightest
}

fn quota_v1() -> Option<f64> {
    let read = |name: &str| -> Option<f64> {
        fs::read_to_string(format!("/sys/fs/cgroup/cpu/{name}")).ok()?.trim().parse().ok()
    };
    let quota = read("cpu.cfs_quota_us")?;
    let period = read("cpu.cfs_period_us")?;
    (quota > 0.0 && period > 0.0).then_some(quota / period)
}

/// `"150000 100000"` is 1.5; `"max 100000"` is no quota.
fn parse_cpu_max(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (period > 0.0).then_some(quota / period)
}

/// `"0-2,5"` is [0, 1, 2, 5].
fn parse_list(text: &str) -> Vec<usize> {
    let mut cpus = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) {
            cpus.extend(first..=last.min(first + 4095));
        }
    }
    cpus
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_quotas_parse() {
        assert_eq!(parse_list("0-2,5"), [0, 1, 2, 5]);
        assert_eq!(parse_list("7"), [7]);
        assert_eq!(parse_list(""), Vec::<usize>::new());
        assert_eq!(parse_cpu_max("150000 100000\n"), Some(1.5));
        assert_eq!(parse_cpu_max("max 100000\n"), None);
        assert_eq!(parse_cpu_max("garbage"), None);
    }

    #[test]
    fn pinning_stays_inside_the_mask() {
        let allowed = allowed();
        std::thread::spawn(move || {
            pin_current_thread(allowed[0]).unwrap();
            let status = fs::read_to_string("/proc/thread-self/status").unwrap();
            let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
            assert_eq!(parse_list(list.trim()), [allowed[0]]);
        })
        .join()
        .unwrap();
    }
}
