//! Who calls: from the key in `Authorization` to a principal with a tenant and scopes.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts};
use events::{
    KeyId, PrincipalId, TenantId,
    directory::{Scope, Scopes},
};
use http::{HeaderMap, header, request::Parts};
use ipnet::IpNet;
use service::key::SecretHash;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{App, command::Principal, error::Error, forward::arrived::Forwarded};

/// A principal, whose tenant it belongs to, and what it may do.
#[derive(Debug, Clone)]
pub struct Caller {
    principal: Principal,
    scopes: Scopes,
    key: Option<KeyId>,
}

/// The operator key of the configuration speaks for this principal, in no tenant.
pub const OPERATOR: Principal = Principal {
    tenant: TenantId::new(Uuid::nil()),
    id: PrincipalId::new(Uuid::nil()),
};

impl Caller {
    /// Who it is, when it may do what needs this scope.
    ///
    /// # Errors
    /// The scope is missing.
    pub fn may(&self, scope: Scope) -> Result<Principal, Error> {
        if self.scopes.allow(scope) {
            Ok(self.principal)
        } else {
            Err(Error::ScopeMissing(scope))
        }
    }

    /// Another process has found out who it is.
    pub(crate) fn known(principal: Principal, scopes: Scopes) -> Self {
        Self {
            principal,
            scopes,
            key: None,
        }
    }

    /// Who it is, whatever it may do.
    pub(crate) fn principal(&self) -> Principal {
        self.principal
    }

    /// What it may do.
    pub(crate) fn scopes(&self) -> Scopes {
        self.scopes
    }

    /// The key that it showed; none for the one of the configuration.
    pub fn key(&self) -> Option<&KeyId> {
        self.key.as_ref()
    }

    /// Whether it stands above tenants.
    pub fn is_operator(&self) -> bool {
        self.scopes.allow(Scope::Operator)
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Error> {
        if let Some(forwarded) = Forwarded::of(app, parts)? {
            return Ok(forwarded.caller);
        }
        let key = bearer(&parts.headers).ok_or(Error::Unauthenticated)?;
        if app.operator_key().is_some_and(|operator| operator.is(key)) {
            return Ok(Self {
                principal: OPERATOR,
                scopes: Scopes::from_iter([Scope::Operator]),
                key: None,
            });
        }
        let key: service::key::Key = key.parse().map_err(|_| Error::Unauthenticated)?;
        let id = key.id().parse().map_err(|_| Error::Unauthenticated)?;
        let known = app.directory().key(&id).await?.ok_or(Error::Unauthenticated)?;
        if key.hash() != SecretHash::new(known.secret_hash.0) {
            return Err(Error::Unauthenticated);
        }
        let principal = Principal {
            tenant: known.tenant,
            id: known.principal,
        };
        Ok(Self {
            principal,
            scopes: known.scopes,
            key: Some(id),
        })
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

/// The operator key of the configuration, hashed, so that comparing it takes the same time for every text.
#[derive(Clone)]
pub struct OperatorKey(SecretHash);

impl OperatorKey {
    /// Remembers the key's hash only.
    pub fn new(key: &str) -> Self {
        Self(SecretHash::new(Sha256::digest(key).into()))
    }

    fn is(&self, key: &str) -> bool {
        SecretHash::new(Sha256::digest(key).into()) == self.0
    }
}

/// The address that a visit comes from.
#[derive(Debug, Clone, Copy)]
pub struct ClientAddress(pub IpAddr);

impl FromRequestParts<App> for ClientAddress {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Self::Rejection> {
        if let Ok(Some(forwarded)) = Forwarded::of(app, parts) {
            return Ok(Self(forwarded.address));
        }
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let peer = peer.map_or(IpAddr::from([0, 0, 0, 0]), |ConnectInfo(address)| address.ip());
        Ok(Self(client_address(peer, &parts.headers, app.trusted_proxies())))
    }
}

/// Walks `X-Forwarded-For` from its end, as long as the speaker is a trusted proxy.
fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut speaker = peer.to_canonical();
    let mut lines: Vec<&str> = headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    while is_trusted(&speaker)
        && let Some(line) = lines.pop()
    {
        for hop in line.rsplit(',') {
            let Some(address) = hop_address(hop.trim()) else {
                return speaker;
            };
            speaker = address.to_canonical();
            if !is_trusted(&speaker) {
                return speaker;
            }
        }
    }
    speaker
}

/// An address as proxies write it: alone, in brackets, with a port behind it.
fn hop_address(hop: &str) -> Option<IpAddr> {
    let alone = hop.parse::<IpAddr>().ok();
    let with_port = || hop.parse::<SocketAddr>().ok().map(|address| address.ip());
    let in_brackets = || hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    alone.or_else(with_port).or_else(in_brackets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_may_write_a_port_behind_the_address() {
        let of = |text: &str| hop_address(text).map(|address| address.to_string());
        for (hop, address) in [
            ("203.0.113.7", "203.0.113.7"),
            ("203.0.113.7:54321", "203.0.113.7"),
            ("2001:db8::7", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("[2001:db8::7]:54321", "2001:db8::7"),
        ] {
            assert_eq!(of(hop).as_deref(), Some(address));
        }
        for hop in ["", "unknown", "203.0.113.7:x", "[203.0.113.7"] {
            assert_eq!(of(hop), None, "{hop}");
        }
    }

    fn forwarded(lines: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", http::HeaderValue::from_static(line));
        }
        headers
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        let trusted = ["10.0.0.0/8".parse().expect("a network")];
        let address = |peer: &str, lines: &[&'static str]| {
            client_address(peer.parse().expect("an address"), &forwarded(lines), &trusted).to_string()
        };
        assert_eq!(address("203.0.113.9", &["198.51.100.1"]), "203.0.113.9");
        assert_eq!(address("10.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(
            address("10.0.0.1", &["6.6.6.6, 198.51.100.1, 10.0.0.2"]),
            "198.51.100.1"
        );
        assert_eq!(address("10.0.0.1", &["6.6.6.6", "198.51.100.1"]), "198.51.100.1");
        assert_eq!(address("10.0.0.1", &["garbage"]), "10.0.0.1");
        assert_eq!(
            address("::ffff:10.0.0.1", &["::ffff:198.51.100.1"]),
            "198.51.100.1"
        );
        assert_eq!(address("10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn a_key_comes_as_a_bearer() {
        let headers = |value: &'static str| {
            HeaderMap::from_iter([(header::AUTHORIZATION, http::HeaderValue::from_static(value))])
        };
        assert_eq!(bearer(&headers("Bearer ann_a_b")), Some("ann_a_b"));
        assert_eq!(bearer(&headers("bearer  ann_a_b ")), Some("ann_a_b"));
        assert_eq!(bearer(&headers("Basic ann_a_b")), None);
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}
