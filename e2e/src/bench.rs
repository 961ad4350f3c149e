//! What `./dev bench` measures: each figure beside what bounds it, in one run, so that the ratio means something on
//! any machine.
//!
//! [`load`] asks, [`bare`] is the least that a server could do, [`broker`] what the broker takes by itself, [`spent`]
//! what it costs, [`report`] writes. The phases: [`footprint`], [`startup`], [`ledger`] (without HTTP), [`writes`] (commands and page views),
//! [`fleet`] (forwarding, refusals, takeover), [`catch_up`],
//! [`live`] (how soon writes are visible, verification),
//! [`reads`].

pub mod bare;
pub mod broker;
pub mod catch_up;
pub mod fleet;
pub mod footprint;
pub mod ledger;
pub mod live;
pub mod load;
pub mod reads;
pub mod report;
mod spent;
pub mod startup;
pub mod writes;

use std::{path::PathBuf, process::Stdio, time::Duration};

use anyhow::Context as _;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::{engines::Engines, installation::LogKind};

/// What every phase needs.
#[derive(Debug)]
pub struct Bench {
    /// Already running.
    pub engines: Engines,
    /// The `annals` that is measured.
    pub binary: PathBuf,
    /// This program, which can also be the bare server.
    pub own: PathBuf,
    /// How long each figure is measured.
    pub duration: Duration,
    /// Only so many connections, when somebody looks for something.
    pub connections: Option<usize>,
    /// Only this log.
    pub log: Option<LogKind>,
}

impl Bench {
    /// Starts the bare server, a process of its own as the measured one is; it ends with what is given back.
    ///
    /// # Errors
    /// It does not start.
    pub async fn bare(&self) -> anyhow::Result<(Child, String)> {
        let mut child = Command::new(&self.own)
            .arg("--bare")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let output = child.stdout.take().context("no output")?;
        let mut address = String::new();
        BufReader::new(output).read_line(&mut address).await?;
        anyhow::ensure!(!address.is_empty(), "the bare server did not start");
        Ok((child, address.trim().to_owned()))
    }
}
