//! No stranger takes all connections.
//!
//! Counted are those of public addresses: what is near (this machine, a private network) is a proxy or another process of
//! ours, which speaks for many. Of IPv6 a network of 64 bits is one, since that is what one machine is given.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

/// How many connections each address has. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Shares(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// A connection that is counted, until it is dropped.
#[derive(Debug)]
pub(super) struct Share(Option<(Shares, IpAddr)>);

impl Shares {
    /// Counts a connection; none, when its address has so many already.
    pub(super) fn take(&self, address: IpAddr, most: usize) -> Option<Share> {
        let Some(address) = stranger(address) else {
            return Some(Share(None));
        };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(address).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Share(Some((self.clone(), address))))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let Some((shares, address)) = &self.0 else { return };
        let mut all = shares.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(address) {
            *count -= 1;
            if *count == 0 {
                all.remove(address);
            }
        }
    }
}

/// Who it is, when it is nobody near.
fn stranger(address: IpAddr) -> Option<IpAddr> {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let near = v4.is_loopback() || v4.is_private() || v4.is_link_local();
            // Shared between a provider and its customers.
            let carrier = v4.octets()[0] == 100 && v4.octets()[1] & 0b1100_0000 == 64;
            (!near && !carrier).then_some(IpAddr::V4(v4))
        }
        IpAddr::V6(v6) => {
            let near = v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local();
            let network = Ipv6Addr::from(u128::from(v6) & !u128::from(u64::MAX));
            (!near).then_some(IpAddr::V6(network))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_stranger_has_so_many_and_the_others_theirs() {
        let shares = Shares::default();
        let held: Vec<_> = (0..3)
            .map(|_| shares.take(address("203.0.113.7"), 3).unwrap())
            .collect();
        assert!(shares.take(address("203.0.113.7"), 3).is_none());
        assert!(
            shares.take(address("::ffff:203.0.113.7"), 3).is_none(),
            "the same one"
        );
        let other = shares.take(address("203.0.113.8"), 3);
        assert!(other.is_some());
        drop(held);
        assert!(shares.take(address("203.0.113.7"), 3).is_some());
        drop(other);
        assert!(shares.0.lock().unwrap().is_empty(), "nobody is remembered");
    }

    #[test]
    fn a_network_of_ipv6_is_one_stranger_and_who_is_near_is_none() {
        let shares = Shares::default();
        let _held = shares.take(address("2001:db8:1:2::1"), 1).unwrap();
        assert!(shares.take(address("2001:db8:1:2:ffff::9"), 1).is_none());
        let _other = shares.take(address("2001:db8:1:3::1"), 1).unwrap();
        for near in [
            "127.0.0.1",
            "10.1.2.3",
            "192.168.0.9",
            "172.20.0.2",
            "100.64.0.1",
            "::1",
            "fd00::1",
            "fe80::1",
        ] {
            assert!(shares.take(address(near), 0).is_some(), "{near}");
        }
    }
}
