//! What was measured, as a person reads it, with the machine it was measured on.

use std::{fmt::Write as _, path::Path};

use super::load::Measured;
use crate::engines::Engines;

/// Collects sections while phases run; prints each line at once.
#[derive(Debug, Default)]
pub struct Report {
    text: String,
    /// Targets: what, the figure, what it should be, whether it is.
    targets: Vec<(String, String, String, bool)>,
}

impl Report {
    /// Begins a section.
    pub fn section(&mut self, title: &str, explanation: &str) {
        self.line(&format!("\n## {title}\n\n{explanation}\n"));
    }

    /// Begins a table.
    pub fn table(&mut self, headings: &[&str]) {
        self.line(&format!("| {} |", headings.join(" | ")));
        self.line(&format!("|{}", "---|".repeat(headings.len())));
    }

    /// Adds a row.
    pub fn row(&mut self, cells: &[String]) {
        self.line(&format!("| {} |", cells.join(" | ")));
    }

    /// Adds a line as it is.
    pub fn line(&mut self, line: &str) {
        println!("{line}");
        let written = writeln!(self.text, "{line}");
        debug_assert!(written.is_ok(), "a text takes everything");
    }

    /// A figure that should be at least so much.
    pub fn at_least(&mut self, what: &str, figure: f64, wanted: f64) {
        self.targets.push((
            what.to_owned(),
            format!("{figure:.2}"),
            format!("≥ {wanted:.2}"),
            figure >= wanted,
        ));
    }

    /// A figure that should be at most so much.
    pub fn at_most(&mut self, what: &str, figure: f64, wanted: f64) {
        self.targets.push((
            what.to_owned(),
            format!("{figure:.2}"),
            format!("≤ {wanted:.2}"),
            figure <= wanted,
        ));
    }

    /// The whole page.
    ///
    /// # Errors
    /// An engine does not tell its version.
    pub async fn page(&self, engines: &Engines) -> anyhow::Result<String> {
        let mut page = String::from(
            "# Benchmarks\n\nWritten by `./dev bench`. Everything runs on one machine: the load, the server, the engines. So \
             only ratios within this page mean something; figures of other machines do not compare.\n\n",
        );
        page.push_str(&machine(engines).await?);
        if !self.targets.is_empty() {
            page.push_str("\n## Aims\n\n| what | measured | aim | |\n|---|---|---|---|\n");
            for (what, figure, wanted, met) in &self.targets {
                let met = if *met { "met" } else { "**missed**" };
                page.push_str(&format!("| {what} | {figure} | {wanted} | {met} |\n"));
            }
        }
        page.push_str(&self.text);
        Ok(page)
    }
}

/// `12,345`.
pub fn count(figure: f64) -> String {
    let digits = format!("{:.0}", figure.max(0.0));
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Rate, p50, p99 and p99.9 as cells.
pub fn cells(measured: &Measured) -> [String; 4] {
    let millis = |time: std::time::Duration| format!("{:.2}", time.as_secs_f64() * 1_000.0);
    let Measured { p50, p99, p999, .. } = *measured;
    [count(measured.rate), millis(p50), millis(p99), millis(p999)]
}

async fn machine(engines: &Engines) -> anyhow::Result<String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| -> String {
        let line = text
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_default();
        line.split_once(':')
            .map_or("?", |(_, value)| value)
            .trim()
            .to_owned()
    };
    let (processor, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let gigabytes = field(&memory, "MemTotal")
        .trim_end_matches(" kB")
        .parse::<f64>()
        .unwrap_or(0.0)
        / 1_048_576.0;
    let mut postgres = <sqlx::PgConnection as sqlx::Connection>::connect(&engines.postgres).await?;
    let postgres: String = sqlx::query_scalar("SHOW server_version")
        .fetch_one(&mut postgres)
        .await?;
    let clickhouse = engines.clickhouse("SELECT version()").await?;
    let pom = read(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/local/pom.xml"));
    let kafka = pom
        .split_once("<kafka.version>")
        .and_then(|(_, rest)| rest.split_once('<'))
        .map(|(version, _)| version.to_owned());
    let rust = std::process::Command::new("rustc").arg("--version").output();
    let rust = rust
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default();
    let (_, librdkafka) = rdkafka::util::get_rdkafka_version();
    Ok(format!(
        "| | |\n|---|---|\n| processor | {cores} cores, {} |\n| memory | {gigabytes:.0} GB |\n| kernel | {} |\n| PostgreSQL | {postgres} |\n\
         | ClickHouse | {} |\n| Kafka | {} (one broker), librdkafka {librdkafka} |\n| Rust | {rust} |\n| when | {} |\n",
        field(&processor, "model name"),
        read("/proc/sys/kernel/osrelease").trim(),
        clickhouse.trim(),
        kafka.unwrap_or_else(|| "?".to_owned()),
        chrono::Utc::now().format("%Y-%m-%d %H:%M UTC"),
    ))
}

/// Where BENCHMARKS.md stands.
pub fn place() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../BENCHMARKS.md")
}

#[cfg(test)]
mod tests {
    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(super::count(1_234_567.4), "1,234,567");
        assert_eq!(super::count(999.0), "999");
    }
}
