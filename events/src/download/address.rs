//! Addresses that a download may have: on the web, and not inside anyone's network.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use url::{Host, Url};

use crate::aggregate::Invalid;

/// An http or https address without user and password, at most 2,048 characters, as the URL standard writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownloadUrl(Url);

/// Whether addresses within this machine or a private network are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrivateAddresses {
    /// No: whoever may queue a download must not reach what only our network may.
    Refused,
    /// Yes: this installation is told to.
    Allowed,
}

const MAX: usize = 2048;

/// Names that mean this machine or its network, or that nobody on the internet can own (RFC 6761, 6762, 8375, 9476).
const PRIVATE_NAMES: &[&str] = &[
    "localhost",
    "local",
    "internal",
    "intranet",
    "lan",
    "home",
    "corp",
    "private",
    "home.arpa",
    "localdomain",
    // In the hosts file of some systems.
    "localdomain4",
    "localdomain6",
    // Below a cluster's own domain, which its machines look names up in.
    "svc",
    "test",
    "invalid",
    "onion",
];

impl DownloadUrl {
    /// Reads an address as the URL standard does, so that `http://0x7f.1/`, `http://2130706433/` and
    /// `http://[::ffff:127.0.0.1]/` are seen for what they are.
    ///
    /// A name may still lead to a private address when it is looked up: who downloads must check that again.
    ///
    /// # Errors
    /// No URL, another scheme, a user or a password, too long; a private address or name, unless allowed.
    pub fn parse(text: &str, private: PrivateAddresses) -> Result<Self, Invalid> {
        if text.len() > MAX {
            return Err(Invalid::new(format!("a URL has at most {MAX} characters")));
        }
        let url = Url::parse(text.trim())
            .map_err(|error| Invalid::new(format!("not a URL, as in https://example.org/file: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Invalid::new(format!(
                "the scheme {:?} is not allowed: only http and https are",
                url.scheme()
            )));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Invalid::new("a URL must not hold a user or a password"));
        }
        if url.as_str().len() > MAX {
            return Err(Invalid::new(format!(
                "a URL has at most {MAX} characters, this one {}",
                url.as_str().len()
            )));
        }
        let inside = match url.host() {
            None => return Err(Invalid::new("the URL has no host")),
            Some(Host::Domain(name)) if has_empty_part(name) => {
                return Err(Invalid::new("the name of the host has an empty part"));
            }
            Some(Host::Domain(name)) => is_private_name(name),
            Some(Host::Ipv4(address)) => is_private(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => is_private(IpAddr::V6(address)),
        };
        if inside && private == PrivateAddresses::Refused {
            return Err(Invalid::new(
                "the URL points at this machine or a private network",
            ));
        }
        Ok(Self(url))
    }
}

impl fmt::Display for DownloadUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

/// A name may end with one dot; whoever takes off more might find an address.
fn has_empty_part(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.split('.').any(str::is_empty)
}

fn is_private_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let below = |suffix: &&str| {
        name.strip_suffix(*suffix)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    // A name without a dot is looked up in the local network's search domains.
    name.is_empty() || !name.contains('.') || PRIVATE_NAMES.iter().any(below)
}

/// Whether an address is not one host on the internet (IANA's special-purpose registries).
pub fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_private_v4(address),
        IpAddr::V6(address) => is_private_v6(address),
    }
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    a == 0 // this network
        || a == 10
        || a == 127
        || (a == 100 && (64..128).contains(&b)) // carrier-grade NAT
        || (a == 169 && b == 254) // link-local: the clouds' metadata services
        || (a == 172 && (16..32).contains(&b))
        || (a == 192 && b == 168)
        || (a == 192 && b == 0 && (c == 0 || c == 2)) // protocol assignments, documentation
        || (a == 192 && b == 88 && c == 99) // 6to4 relays
        || (a == 198 && (b == 18 || b == 19)) // benchmarks
        || (a == 198 && b == 51 && c == 100)
        || (a == 203 && b == 0 && c == 113)
        || a >= 224 // multicast, reserved, broadcast
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let embedded = |high: u16, low: u16| {
        let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
        is_private_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // ::/96 holds the unspecified, the loopback and the deprecated IPv4-compatible addresses.
        [0, 0, 0, 0, 0, 0, _, _] => true,
        // IPv4-mapped, IPv4-translated (RFC 2765), NAT64.
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        // 6to4 carries its IPv4 address in front.
        | [0x2002, high, low, ..] => embedded(high, low),
        [0x64, 0xff9b, 1, ..] => true, // NAT64 within a network
        [0x100, 0, 0, 0, ..] => true,  // discard
        [0x2001, second, ..] if second < 0x200 => true, // Teredo, ORCHID, benchmarks and the like
        [0x2001, 0xdb8, ..] => true,   // documentation
        [0x3fff, second, ..] if second < 0x1000 => true, // documentation
        [0x5f00, ..] => true,          // segment routing
        [first, ..] => (first & 0xfe00) == 0xfc00 // unique local
            || (first & 0xff00) == 0xff00         // multicast
            || (first & 0xff80) == 0xfe80, // link-local, site-local
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> bool {
        DownloadUrl::parse(text, PrivateAddresses::Refused).is_err()
    }

    #[test]
    fn an_address_on_the_web_is_taken() {
        for text in [
            "https://example.org/a.epub?x=1#y",
            "http://example.org:8080/",
            "https://93.184.216.34/",
            "https://[2606:4700::1111]/",
            "https://bücher.example.org/",
            "https://local.example.org/",
            "https://notlocalhost.com/",
            "http://172.32.0.1/",
            "http://100.128.0.1/",
        ] {
            assert!(!refused(text), "{text}");
        }
    }

    #[test]
    fn another_scheme_is_refused() {
        for text in [
            "ftp://example.org/",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "data:,a",
            "gopher://example.org",
        ] {
            assert!(refused(text), "{text}");
            assert!(
                DownloadUrl::parse(text, PrivateAddresses::Allowed).is_err(),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_url_or_names_a_user_is_refused() {
        let long = format!("https://example.org/{}", "x".repeat(2048));
        for text in [
            "",
            "example.org/a",
            "https://",
            "https://a:b@example.org/",
            "https://a@example.org/",
            "https://exa mple.org",
            &long,
        ] {
            assert!(refused(text), "{text}");
        }
    }

    #[test]
    fn a_private_address_is_refused_however_it_is_written() {
        for host in [
            "localhost",
            "LOCALHOST",
            "localhost.",
            "a.localhost",
            "printer.local",
            "db.internal",
            "intranet",
            "x.home.arpa",
            "localhost4.localdomain4",
            "kubernetes.default.svc",
            "127.0.0.1..",
            "a..example",
            "127.0.0.1",
            "127.1",
            "0x7f.0.0.1",
            "0x7f000001",
            "2130706433",
            "0177.0.0.1",
            "017700000001",
            "127.0.0.1.",
            "0",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "192.0.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "①②⑦.⓪.⓪.①",
            "[::]",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:10.0.0.1]",
            "[::ffff:a9fe:a9fe]",
            "[::127.0.0.1]",
            "[64:ff9b::10.0.0.1]",
            "[64:ff9b:1::1]",
            "[2002:7f00:1::]",
            "[fe80::1]",
            "[fec0::1]",
            "[fc00::1]",
            "[fd12::1]",
            "[ff02::1]",
            "[2001:db8::1]",
            "[2001::1]",
        ] {
            let text = format!("http://{host}/x");
            assert!(refused(&text), "{text}");
        }
    }

    #[test]
    fn a_private_address_is_taken_where_that_is_configured() {
        let url = DownloadUrl::parse("http://127.1:8000/a", PrivateAddresses::Allowed).unwrap();
        assert_eq!(url.to_string(), "http://127.0.0.1:8000/a");
    }
}
