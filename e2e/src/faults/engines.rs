//! The engines of a run, as those who end them and start them again see them.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use tokio::process::Command;

use super::{
    network::Network,
    ways::{self, Ways},
};
use crate::wait;

/// The engines that `./dev test` has started, as those who end them see them.
pub struct Engines {
    /// Where their pids and ports are.
    state: PathBuf,
    /// Each with the name by which it is started.
    pub brokers: &'static [(&'static str, &'static str)],
    /// Between three brokers, where this machine lets us make one.
    pub network: Option<Network>,
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
        let can_cut = cut(&["dst", "127.0.0.1", "dport", "=", ":9"]).await.is_ok();
        if !can_cut {
            println!(
                "connections between brokers are not cut here: `ss -K` needs root and a kernel that lets it"
            );
        }
        let network = match brokers {
            [_] => None,
            _ => Network::of(&state, brokers.iter().map(|(name, _)| *name)).await?,
        };
        Ok(Self {
            state,
            brokers,
            network,
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
        let brokers = self.brokers.iter().map(|(name, _)| {
            let address = self.network.as_ref().and_then(|network| network.address(name));
            (*name, address.unwrap_or(Ipv4Addr::LOCALHOST.into()))
        });
        Ways::new(&self.state.join("ports"), brokers, engines).await
    }

    /// Sends an engine a signal, such as `-STOP`.
    ///
    /// # Errors
    /// It was not started.
    pub async fn signal(&self, name: &str, signal: &str) -> anyhow::Result<()> {
        let pid = self.pid(name)?;
        let sent = Command::new("kill").args([signal, &pid]).status().await?;
        anyhow::ensure!(sent.success(), "kill {signal} {pid} ({name}): {sent}");
        Ok(())
    }

    /// Kills an engine, and waits until it is dead: who starts what is still dying starts nothing.
    ///
    /// # Errors
    /// It was not started, or does not die.
    pub async fn kill(&self, name: &str) -> anyhow::Result<()> {
        let stat = format!("/proc/{}/stat", self.pid(name)?);
        self.signal(name, "-KILL").await?;
        // Dead, though nobody may have looked: a zombie.
        let is_dead = || std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "));
        let dead = async || is_dead().then_some(());
        wait::until("an engine to die", Duration::from_secs(60), dead).await
    }

    fn pid(&self, name: &str) -> anyhow::Result<String> {
        let run = std::fs::read_to_string(self.state.join("run").join(name))?;
        let pid = run.split_whitespace().next().context("no pid")?;
        Ok(pid.to_owned())
    }

    /// Starts an engine again. The children of a server that was killed hold its folder for a moment longer.
    ///
    /// # Errors
    /// It does not start within a minute.
    pub async fn start(&self, started_as: &str) -> anyhow::Result<()> {
        let mut last = None;
        let started = wait::until("an engine to start again", Duration::from_secs(60), async || {
            last = self.try_to_start(started_as).await.err();
            last.is_none().then_some(())
        });
        started.await.map_err(|error| last.unwrap_or(error))
    }

    async fn try_to_start(&self, started_as: &str) -> anyhow::Result<()> {
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
            let port = format!(":{}", ways::port(&self.state.join("ports"), name)?);
            match self.network.as_ref().and_then(|network| network.namespace(name)) {
                Some(namespace) => cut(&["-N", namespace, "sport", "=", &port]).await?,
                None => cut(&["dst", "127.0.0.1", "dport", "=", &port]).await?,
            }
        }
        Ok(())
    }
}

/// Ends the connections that these words of `ss` choose. In one namespace that ends both sides.
async fn cut(chosen: &[&str]) -> anyhow::Result<()> {
    let done = Command::new("ss").arg("-K").args(chosen).output().await?;
    let complaint = String::from_utf8_lossy(&done.stderr);
    anyhow::ensure!(
        done.status.success() && !complaint.contains("not permitted"),
        "{complaint}"
    );
    Ok(())
}
