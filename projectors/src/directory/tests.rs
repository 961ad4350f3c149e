//! Given events, then rows.

use events::{KeyId, PrincipalId, TenantId, Timestamp, directory, number::Sha256};

use super::*;

fn recorded(subject: &str, version: u64, event: impl Into<Event>) -> Recorded {
    let envelope = Envelope {
        id: events::EventId::new(Uuid::from_u128(9)),
        subject: subject.into(),
        time: Timestamp::from_micros(1_000 + i64::try_from(version).unwrap()).unwrap(),
        tenant: TenantId::new(Uuid::from_u128(1)),
        aggregate_version: Some(version),
        actor: None,
        causation: None,
        correlation: None,
        traceparent: None,
    };
    Recorded {
        envelope,
        event: event.into(),
    }
}

fn key() -> KeyId {
    "abcd1234".parse().unwrap()
}

fn issued() -> Recorded {
    let event = directory::KeyIssued {
        key: key(),
        principal: PrincipalId::new(Uuid::from_u128(3)),
        secret_hash: Sha256([7; 32]),
        scopes: vec![directory::Scope::Read],
    };
    recorded("abcd1234", 1, event)
}

fn given(events: &[Recorded]) -> Changes {
    let mut rows = Rows::default();
    for event in events {
        DirectoryFold::fold(
            &mut rows,
            &Place {
                tenant_seq: 1,
                index: 0,
            },
            event,
        )
        .unwrap();
    }
    rows.changes
}

#[test]
fn a_key_is_revoked_in_its_own_batch_or_in_a_later_one() {
    let revoked = || recorded("abcd1234", 2, directory::KeyRevoked { key: key() });
    let changes = given(&[issued(), revoked()]);
    assert!(changes.revoked.is_empty());
    assert_eq!(
        (changes.keys[0].revoked_at.is_some(), changes.keys[0].version),
        (true, 2)
    );
    assert_eq!(changes.keys[0].scopes, ["read"]);
    let changes = given(&[revoked()]);
    assert_eq!(
        (changes.keys.len(), changes.revoked[0].key.as_str()),
        (0, "abcd1234")
    );
}

#[test]
fn tenants_sites_and_principals_are_rows() {
    let id = Uuid::from_u128(8).to_string();
    let site = directory::SiteCreated {
        domain: "example.org".into(),
        name: None,
        timezone: "UTC".into(),
    };
    let changes = given(&[
        recorded(&id, 1, directory::TenantCreated { name: "t".into() }),
        recorded(&id, 1, site),
        recorded(&id, 1, directory::PrincipalCreated { name: None }),
    ]);
    assert_eq!(changes.tenants[0].tenant, Uuid::from_u128(1));
    assert_eq!(
        (changes.sites[0].site, changes.sites[0].domain.as_str()),
        (Uuid::from_u128(8), "example.org")
    );
    assert_eq!(changes.principals[0].principal, Uuid::from_u128(8));
}

#[test]
fn a_site_without_an_id_is_unfit() {
    let site = directory::SiteCreated {
        domain: "example.org".into(),
        name: None,
        timezone: "UTC".into(),
    };
    let mut rows = Rows::default();
    let place = Place {
        tenant_seq: 1,
        index: 0,
    };
    DirectoryFold::fold(&mut rows, &place, &recorded("x", 1, site)).unwrap_err();
    assert_eq!(rows.changes, Changes::default());
}

#[test]
fn a_principal_is_erased_in_its_own_batch_or_in_a_later_one() {
    let id = Uuid::from_u128(3);
    let created = || {
        let sealed = events::Sealed {
            kid: Uuid::from_u128(4),
            alg: "xchacha20poly1305".into(),
            nonce: "n".into(),
            ct: "c".into(),
        };
        recorded(
            &id.to_string(),
            1,
            directory::PrincipalCreated { name: Some(sealed) },
        )
    };
    let erased = || recorded(&id.to_string(), 2, directory::PrincipalErased {});
    assert!(given(&[created()]).principals[0].name.is_some());
    let changes = given(&[created(), erased()]);
    assert!(changes.erased.is_empty());
    assert_eq!(
        (changes.principals[0].name.as_ref(), changes.principals[0].version),
        (None, 2)
    );
    let changes = given(&[erased()]);
    assert_eq!((changes.erased[0].principal, changes.erased[0].version), (id, 2));
}
