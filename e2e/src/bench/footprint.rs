//! Start-up time, memory, size of the binary.

use std::time::{Duration, Instant};

use super::{Bench, report::Report};
use crate::installation::{Installation, LogKind, Role};

/// Runs the phase.
///
/// # Errors
/// Something does not start.
pub async fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    report.section("Footprint", "`annals serve` (everything in one process) on a small embedded log, engines up. The first start makes log and tables; the others are the usual case.");
    report.table(&["what", "figure"]);
    let mut installation = Installation::new(&bench.engines, bench.binary.clone(), LogKind::Embedded).await?;
    let mut usual = Vec::new();
    for start in 0..6 {
        let begin = Instant::now();
        installation.start().await?;
        let millis = begin.elapsed().as_secs_f64() * 1_000.0;
        if start == 0 {
            report.row(&["ready after, first start".to_owned(), format!("{millis:.0} ms")]);
            installation.tenant("bench", "bench.example").await?;
        } else {
            usual.push(millis);
        }
        installation.stop().await?;
    }
    usual.sort_by(f64::total_cmp);
    let (middle, worst) = (usual[usual.len() / 2], usual[usual.len() - 1]);
    report.row(&[
        "ready after, five later starts, middle and worst".to_owned(),
        format!("{middle:.0} ms, {worst:.0} ms"),
    ]);
    report.at_most("annals serve ready after, ms", middle, 300.0);
    installation.start().await?;
    if let Some(megabytes) = installation.pid(Role::All).and_then(peak_megabytes) {
        report.row(&["memory after start".to_owned(), format!("{megabytes:.0} MB")]);
        report.at_most("memory after start, MB", megabytes, 100.0);
    }
    installation.stop().await?;
    installation.erase().await?;
    let megabytes = std::fs::metadata(&bench.binary)?.len() as f64 / 1e6;
    report.row(&["release binary".to_owned(), format!("{megabytes:.1} MB")]);
    report.at_most("release binary, MB", megabytes, 30.0);
    Ok(())
}

/// Processor time that a process has used, of user and system. A tick is 10 ms wherever Linux runs today.
pub fn processor_time(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 10))
}

/// The most memory that a process has had resident.
pub fn peak_megabytes(pid: u32) -> Option<f64> {
    megabytes(pid, "VmHWM:")
}

/// The memory that a process has resident now.
pub fn current_megabytes(pid: u32) -> Option<f64> {
    megabytes(pid, "VmRSS:")
}

fn megabytes(pid: u32, which: &str) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(which))?;
    Some(line.trim().trim_end_matches(" kB").parse::<f64>().ok()? * 1_024.0 / 1e6)
}
