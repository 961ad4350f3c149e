//! The engines of a run, as those who end them and start them again see them.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tokio::process::Command;

use super::ways::{self, Ways};

/// The engines that `./dev test` has started, as those who end them see them.
pub struct Engines {
    /// Where their pids and ports are.
    state: PathBuf,
    /// Each with the name by which it is started.
    pub brokers: &'static [(&'static str, &'static str)],
    can_cut: bool,
}

impl Engines {
    /// Those of this run.
    ///
    /// # Errors
    /// They were started in another way.
    pub async fn new() -> anyhow::Result<Self> {
        let state =
            std::env::var_os("ANNALS_TEST_STATE").context("ANNALS_TEST_STATE is not set: run ./dev test")?;
        let state = PathBuf::from(state);
        let brokers: &[_] = if state.join("run/kafka3-1").exists() {
            &[
                ("kafka3-1", "kafka3"),
                ("kafka3-2", "kafka3"),
                ("kafka3-3", "kafka3"),
            ]
        } else {
            &[("kafka1", "kafka")]
        };
        // Of nobody's port.
        let can_cut = cut(9).await.is_ok();
        if !can_cut {
            println!(
                "connections between brokers are not cut here: `ss -K` needs root and a kernel that lets it"
            );
        }
        Ok(Self {
            state,
            brokers,
            can_cut,
        })
    }

    /// Proxies before them, and what goes through those.
    ///
    /// # Errors
    /// A port is taken.
    pub async fn ways(
        &self,
        engines: &crate::engines::Engines,
    ) -> anyhow::Result<(Ways, crate::engines::Engines)> {
        let brokers = self.brokers.iter().map(|(name, _)| *name);
        Ways::new(&self.state.join("ports"), brokers, engines).await
    }

    /// Sends an engine a signal, such as `-STOP`.
    ///
    /// # Errors
    /// It was not started.
    pub async fn signal(&self, name: &str, signal: &str) -> anyhow::Result<()> {
        let run = std::fs::read_to_string(self.state.join("run").join(name))?;
        let pid = run.split_whitespace().next().context("no pid")?;
        let sent = Command::new("kill").args([signal, pid]).status().await?;
        anyhow::ensure!(sent.success(), "kill {signal} {pid} ({name}): {sent}");
        Ok(())
    }

    /// Starts an engine again.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(&self, started_as: &str) -> anyhow::Result<()> {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/local/engines");
        let output = Command::new(program)
            .args(["start", started_as])
            .env("ANNALS_STATE", &self.state)
            .output()
            .await?;
        let said = [output.stdout, output.stderr].concat();
        anyhow::ensure!(
            output.status.success(),
            "engines start {started_as}: {}",
            String::from_utf8_lossy(&said)
        );
        Ok(())
    }

    /// Ends what goes to a broker without a proxy: the connections of other brokers.
    ///
    /// # Errors
    /// It has no port, or the kernel does not let it.
    pub async fn cut(&self, name: &str) -> anyhow::Result<()> {
        if self.can_cut && self.brokers.iter().any(|(broker, _)| *broker == name) {
            cut(ways::port(&self.state.join("ports"), name)?).await?;
        }
        Ok(())
    }
}

/// Ends all connections to a port of this machine, on both sides.
async fn cut(port: u16) -> anyhow::Result<()> {
    let port = format!(":{port}");
    let done = Command::new("ss")
        .args(["-K", "dst", "127.0.0.1", "dport", "=", &port])
        .output()
        .await?;
    let complaint = String::from_utf8_lossy(&done.stderr);
    anyhow::ensure!(
        done.status.success() && !complaint.contains("not permitted"),
        "{complaint}"
    );
    Ok(())
}
