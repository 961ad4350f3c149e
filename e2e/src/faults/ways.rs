//! The ways from Annals to each engine, with a proxy on each.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

use super::proxy::Proxy;
use crate::engines::Engines;

/// A proxy before each engine, by the engine's name in `deploy/local/engines`.
pub struct Ways(Vec<(&'static str, Proxy)>);

impl Ways {
    /// Puts proxies before these engines, whose ports are in a folder, and brokers with their addresses; what goes
    /// through them.
    ///
    /// # Errors
    /// The engines were started in another way, or a port is taken.
    pub async fn new(
        ports: &Path,
        brokers: impl IntoIterator<Item = (&'static str, IpAddr)>,
        engines: &Engines,
    ) -> anyhow::Result<(Self, Engines)> {
        let (mut ways, mut through) = (Vec::new(), engines.clone());
        for name in ["postgres", "clickhouse"] {
            let direct = port(ports, name)?;
            let proxy = Proxy::new(0, (Ipv4Addr::LOCALHOST, direct).into()).await?;
            let (from, to) = (format!("127.0.0.1:{direct}"), proxy.address.to_string());
            for url in [
                &mut through.postgres,
                &mut through.postgres_owner,
                &mut through.postgres_reader,
                &mut through.postgres_keystore,
                &mut through.clickhouse,
            ] {
                *url = url.replace(&from, &to);
            }
            ways.push((name, proxy));
        }
        let mut bootstrap = Vec::new();
        for (name, address) in brokers {
            // The broker tells clients that come this way to come this way again.
            let behind = (address, port(ports, &format!("{name}-behind-proxy"))?).into();
            let proxy = Proxy::new(port(ports, &format!("{name}-proxy"))?, behind).await?;
            bootstrap.push(proxy.address.to_string());
            ways.push((name, proxy));
        }
        through.kafka = bootstrap.join(",");
        Ok((Self(ways), through))
    }

    /// All of them.
    pub fn all(&self) -> &[(&'static str, Proxy)] {
        &self.0
    }

    /// The one to an engine.
    pub fn to(&self, engine: &str) -> Option<&Proxy> {
        let found = self.0.iter().find(|(name, _)| *name == engine);
        found.map(|(_, proxy)| proxy)
    }
}

/// The port of an engine of this name.
///
/// # Errors
/// There is none.
pub fn port(ports: &Path, name: &str) -> anyhow::Result<u16> {
    let text = std::fs::read_to_string(ports.join(name))?;
    Ok(text.trim().parse()?)
}
