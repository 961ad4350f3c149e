//! The network between brokers: `deploy/local/engines` gives each a namespace of its own where the machine allows it,
//! and what goes from there to another broker can be lost, or slow.

use std::{net::IpAddr, path::Path};

use anyhow::Context as _;
use tokio::process::Command;

/// Nobody's: what goes there is lost without a word.
const NOWHERE: &str = "02:00:00:00:00:00";

/// The network of brokers.
pub struct Network {
    brokers: Vec<Broker>,
    /// Whether the kernel has what makes one slow.
    pub can_slow: bool,
}

struct Broker {
    name: &'static str,
    namespace: String,
    address: IpAddr,
}

/// What goes wrong between a broker and the others. Clients still reach it, unless it is slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rift {
    /// It hears nobody, and nobody hears it.
    Alone,
    /// It hears the others, who do not hear it.
    Unheard,
    /// It and one other do not hear each other; the rest hear both.
    Without(&'static str),
    /// All that it sends goes at so many kilobits a second.
    Slow(u32),
}

impl Network {
    /// That of these brokers; none, where this machine lets nobody make one.
    ///
    /// # Errors
    /// What was written about it is not understood.
    pub async fn of(
        state: &Path,
        brokers: impl IntoIterator<Item = &'static str>,
    ) -> anyhow::Result<Option<Self>> {
        let mut found = Vec::new();
        for name in brokers {
            let path = state.join("net").join(name);
            if !path.exists() {
                return Ok(None);
            }
            let text = std::fs::read_to_string(&path)?;
            let (namespace, address) = text
                .trim()
                .split_once(' ')
                .with_context(|| format!("{} holds {text:?}", path.display()))?;
            found.push(Broker {
                name,
                namespace: namespace.to_owned(),
                address: address.parse()?,
            });
        }
        let mut network = Self {
            brokers: found,
            can_slow: false,
        };
        if let Some(one) = network.brokers.first() {
            network.can_slow = network.part(one.name, Rift::Slow(1_000_000)).await.is_ok();
        }
        network.heal().await?;
        if !network.can_slow {
            println!(
                "what goes between brokers is not slow here: `tc` needs the kernel's token bucket filter"
            );
        }
        Ok(Some(network))
    }

    /// The namespace that a broker is in.
    pub fn namespace(&self, name: &str) -> Option<&str> {
        self.broker(name).map(|broker| broker.namespace.as_str())
    }

    /// The address that a broker has.
    pub fn address(&self, name: &str) -> Option<IpAddr> {
        self.broker(name).map(|broker| broker.address)
    }

    fn broker(&self, name: &str) -> Option<&Broker> {
        self.brokers.iter().find(|broker| broker.name == name)
    }

    /// Takes a broker from the others.
    ///
    /// # Errors
    /// The kernel does not let it.
    pub async fn part(&self, name: &str, rift: Rift) -> anyhow::Result<()> {
        let one = self.broker(name).context("no such broker")?;
        if let Rift::Slow(kilobits) = rift {
            // What waits longer than two seconds is lost, and sent again.
            let rate = format!("{kilobits}kbit");
            let shape = ["rate", &rate, "burst", "2kb", "latency", "2s"];
            let words = [
                "-n",
                &one.namespace,
                "qdisc",
                "replace",
                "dev",
                "eth0",
                "root",
                "tbf",
            ];
            return done("tc", &[&words[..], &shape].concat()).await;
        }
        for other in self.brokers.iter().filter(|broker| broker.name != name) {
            match rift {
                Rift::Without(apart) if apart != other.name => continue,
                Rift::Unheard => {}
                Rift::Alone | Rift::Without(_) | Rift::Slow(_) => lose(other, one).await?,
            }
            lose(one, other).await?;
        }
        Ok(())
    }

    /// Lets all hear each other again.
    ///
    /// # Errors
    /// The kernel does not let it.
    pub async fn heal(&self) -> anyhow::Result<()> {
        for Broker { namespace, .. } in &self.brokers {
            let lost = [
                "-n",
                namespace,
                "neigh",
                "flush",
                "dev",
                "eth0",
                "nud",
                "permanent",
            ];
            done("ip", &lost).await?;
            // As it is made.
            let slow = [
                "-n", namespace, "qdisc", "replace", "dev", "eth0", "root", "noqueue",
            ];
            if self.can_slow {
                done("tc", &slow).await?;
            }
        }
        Ok(())
    }
}

/// What one sends to the other does not arrive.
async fn lose(from: &Broker, to: &Broker) -> anyhow::Result<()> {
    let address = to.address.to_string();
    let words = ["-n", &from.namespace, "neigh", "replace", &address];
    let nowhere = ["lladdr", NOWHERE, "nud", "permanent", "dev", "eth0"];
    done("ip", &[&words[..], &nowhere].concat()).await
}

async fn done(program: &str, words: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program).args(words).output().await?;
    anyhow::ensure!(
        output.status.success(),
        "{program} {}: {}",
        words.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
