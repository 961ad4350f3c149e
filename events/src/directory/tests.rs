//! Given what happened, when this is asked, then that happens, or that rule stands in the way.

use uuid::Uuid;

use super::*;
use crate::aggregate::assert_all_kinds;

const ACME: TenantId = TenantId::new(Uuid::from_u128(1));
const OTHER: TenantId = TenantId::new(Uuid::from_u128(2));
const SITE: SiteId = SiteId::new(Uuid::from_u128(10));
const ADA: PrincipalId = PrincipalId::new(Uuid::from_u128(20));

fn key(text: &str) -> KeyId {
    text.parse().unwrap()
}

fn tenant(tenant: TenantId, name: &str) -> Command {
    Command::CreateTenant {
        tenant,
        name: Name::new(name).unwrap(),
    }
}

fn site_of(tenant: TenantId, site: SiteId, domain: &str) -> Command {
    Command::CreateSite {
        tenant,
        site,
        domain: domain.parse().unwrap(),
        name: None,
        timezone: Timezone::UTC,
    }
}

fn site(domain: &str) -> Command {
    site_of(ACME, SITE, domain)
}

fn issue_to(tenant: TenantId, principal: PrincipalId, id: &str, scopes: &[Scope]) -> Command {
    Command::IssueKey {
        tenant,
        key: key(id),
        principal,
        name: None,
        secret_hash: Sha256([7; 32]),
        scopes: scopes.iter().copied().collect(),
    }
}

fn issue(id: &str) -> Command {
    issue_to(ACME, ADA, id, &[Scope::Read])
}

fn revoke(id: &str) -> Command {
    Command::RevokeKey {
        tenant: ACME,
        key: key(id),
    }
}

fn erase(tenant: TenantId, principal: PrincipalId) -> Command {
    Command::Erase { tenant, principal }
}

fn raise(level: u16, known: u16) -> Command {
    Command::RaiseFeatureLevel { level, known }
}

fn given(commands: impl IntoIterator<Item = Command>) -> Directory {
    let mut directory = Directory::default();
    for command in [tenant(ACME, "acme"), tenant(OTHER, "other")]
        .into_iter()
        .chain(commands)
    {
        for happened in directory.decide(command).unwrap() {
            directory.evolve(&happened);
        }
    }
    directory
}

fn events(decided: Result<Vec<Happened>, Rejection>) -> Vec<DirectoryEvent> {
    decided
        .unwrap()
        .into_iter()
        .map(|happened| happened.event)
        .collect()
}

#[test]
fn a_tenant_is_found_by_its_name() {
    let given = given([]);
    assert_eq!(given.tenant_of_name("acme"), Some(ACME));
    assert_eq!(given.tenant_name(ACME), Some("acme"));
}

#[test]
fn a_tenants_name_is_used_once() {
    let refused = given([]).decide(tenant(TenantId::new(Uuid::from_u128(3)), "acme"));
    assert_eq!(refused, Err(Rejection::NameTaken { name: "acme".into() }));
}

#[test]
fn a_domain_is_used_once_in_the_whole_installation() {
    let given = given([site("example.org")]);
    let other = SiteId::new(Uuid::from_u128(11));
    let refused = given.decide(site_of(OTHER, other, "EXAMPLE.org."));
    assert_eq!(
        refused,
        Err(Rejection::DomainTaken {
            domain: "example.org".parse().unwrap()
        })
    );
    assert!(given.decide(site_of(OTHER, other, "www.example.org")).is_ok());
}

#[test]
fn a_site_is_found_by_its_domain_and_its_tenant() {
    let other = SiteId::new(Uuid::from_u128(11));
    let given = given([site("example.org"), site_of(ACME, other, "b.example")]);
    assert_eq!(
        given
            .site_of_domain("example.org")
            .map(|site| (site.id, site.tenant)),
        Some((SITE, ACME))
    );
    assert_eq!(
        given.site(other).map(|site| site.domain.as_str()),
        Some("b.example")
    );
    assert_eq!(
        given.sites_of(ACME).map(|site| site.id).collect::<Vec<_>>(),
        [SITE, other]
    );
    assert_eq!(given.sites_of(OTHER).count(), 0);
    assert!(given.site_of_domain("nowhere.example").is_none());
}

#[test]
fn a_site_needs_a_tenant() {
    let refused = given([]).decide(site_of(TenantId::new(Uuid::nil()), SITE, "example.org"));
    assert_eq!(refused, Err(Rejection::UnknownTenant));
}

#[test]
fn a_key_makes_its_principal_the_first_time() {
    let drafted = given([]);
    let made = events(drafted.decide(issue("firstkey")));
    assert!(matches!(
        made[..],
        [DirectoryEvent::PrincipalCreated(_), DirectoryEvent::KeyIssued(_)]
    ));
    let second = events(given([issue("firstkey")]).decide(issue("secondkey")));
    assert!(matches!(second[..], [DirectoryEvent::KeyIssued(_)]));
}

#[test]
fn a_key_says_who_may_do_what() {
    let given = given([issue_to(
        ACME,
        ADA,
        "writerkey",
        &[Scope::ContentWrite, Scope::Read],
    )]);
    let found = given.key(&key("writerkey")).unwrap();
    assert_eq!(
        (found.tenant, found.principal, found.secret_hash),
        (ACME, ADA, Sha256([7; 32]))
    );
    assert!(found.scopes.allow(Scope::ContentWrite) && found.scopes.allow(Scope::Read));
    assert!(!found.scopes.allow(Scope::Admin) && !found.scopes.allow(Scope::DownloadsWrite));
}

#[test]
fn an_admin_may_do_everything_within_the_tenant_and_nothing_above() {
    let admin: Scopes = [Scope::Admin].into_iter().collect();
    for scope in Scope::ALL {
        assert_eq!(admin.allow(scope), scope != Scope::Operator, "{}", scope.name());
    }
}

#[test]
fn a_scope_has_one_name_everywhere() {
    for scope in Scope::ALL {
        assert_eq!(scope.name().parse::<Scope>().unwrap(), scope);
        assert_eq!(serde_json::to_value(scope).unwrap(), scope.name());
    }
    assert!("content".parse::<Scope>().is_err());
}

#[test]
fn a_revoked_key_does_nothing() {
    let given = given([issue("somekey1"), issue("somekey2"), revoke("somekey1")]);
    assert!(given.key(&key("somekey1")).is_none());
    assert!(given.key(&key("somekey2")).is_some());
    assert_eq!(given.version(&Subject::Key(key("somekey1"))), 2);
    assert_eq!(given.decide(revoke("somekey1")), Ok(vec![]), "revoked already");
    assert_eq!(
        given.decide(issue("somekey1")),
        Err(Rejection::IdInUse),
        "and never issued again"
    );
}

#[test]
fn another_tenants_key_and_principal_are_as_unknown_as_none() {
    let given = given([issue("somekey1")]);
    let revoked = given.decide(Command::RevokeKey {
        tenant: OTHER,
        key: key("somekey1"),
    });
    assert_eq!(revoked, Err(Rejection::UnknownKey));
    assert_eq!(given.decide(revoke("nokeyhere")), Err(Rejection::UnknownKey));
    let issued = given.decide(issue_to(OTHER, ADA, "somekey2", &[Scope::Read]));
    assert_eq!(issued, Err(Rejection::UnknownPrincipal));
}

#[test]
fn a_key_needs_a_scope_and_cannot_have_the_operators() {
    assert_eq!(
        given([]).decide(issue_to(ACME, ADA, "somekey1", &[])),
        Err(Rejection::NoScope)
    );
    let operator = given([]).decide(issue_to(ACME, ADA, "somekey1", &[Scope::Read, Scope::Operator]));
    assert_eq!(operator, Err(Rejection::OperatorScope));
}

#[test]
fn who_is_erased_is_erased_once_and_gets_no_new_key() {
    let given = given([issue("somekey1")]);
    let erased = given.decide(erase(ACME, ADA));
    assert_eq!(events(erased), [PrincipalErased {}.into()]);
    let given = self::given([issue("somekey1"), erase(ACME, ADA)]);
    assert_eq!(given.erasures(), [(ACME, ADA)]);
    assert_eq!(given.version(&Subject::Principal(ADA)), 2);
    assert_eq!(given.decide(erase(ACME, ADA)), Ok(vec![]), "erased already");
    assert!(
        given.key(&key("somekey1")).is_some(),
        "a key is revoked, not erased"
    );
    assert_eq!(given.decide(issue("somekey2")), Err(Rejection::PrincipalErased));
}

#[test]
fn another_tenants_subject_is_as_unknown_as_none() {
    let mut given = given([issue("somekey1")]);
    let nobody = PrincipalId::new(Uuid::from_u128(99));
    for (tenant, principal) in [(OTHER, ADA), (ACME, nobody)] {
        assert_eq!(
            given.decide(erase(tenant, principal)),
            Err(Rejection::UnknownSubject)
        );
    }
    // Nor does an event of another tenant touch it, whoever wrote that.
    given.evolve(&Happened {
        tenant: OTHER,
        subject: Subject::Principal(ADA),
        event: PrincipalErased {}.into(),
    });
    assert_eq!(given.erasures(), []);
    assert_eq!(given.principal_owner(ADA), Some(ACME));
}

#[test]
fn a_feature_level_is_raised_when_every_process_knows_it() {
    let before = given([]);
    assert_eq!(before.feature_level(), 0);
    let raised = before.decide(raise(2, 2));
    assert_eq!(events(raised), [FeatureLevelRaised { level: 2 }.into()]);
    assert_eq!(
        before.decide(raise(2, 1)),
        Err(Rejection::LevelUnknown { level: 2, known: 1 })
    );
    let after = given([raise(2, 3)]);
    assert_eq!(after.feature_level(), 2);
    assert_eq!(after.version(&Subject::Installation), 1);
    // Whoever runs now may know less than what was allowed before.
    assert_eq!(after.decide(raise(2, 1)), Ok(vec![]), "it is there already");
}

#[test]
fn a_feature_level_never_goes_back() {
    let mut given = given([raise(2, 2)]);
    let refused = given.decide(raise(1, 2));
    assert_eq!(refused, Err(Rejection::LevelNotLowered { now: 2 }));
    // Nor by an event of another writer.
    given.evolve(&Happened {
        tenant: NO_TENANT,
        subject: Subject::Installation,
        event: FeatureLevelRaised { level: 1 }.into(),
    });
    assert_eq!(given.feature_level(), 2);
}

/// As many sites and keys as a tenant may have; the others have their own.
fn full() -> Directory {
    let sites = (0..MOST_SITES).map(|n| {
        let id = SiteId::new(Uuid::from_u128(1_000 + n as u128));
        site_of(ACME, id, &format!("{n}.example"))
    });
    let keys = (0..MOST_KEYS).map(|n| issue(&format!("k{n:07}")));
    given(sites.chain(keys))
}

#[test]
fn a_tenant_has_so_many_sites_and_keys_and_no_more() {
    let full = full();
    let new = SiteId::new(Uuid::from_u128(7));
    assert_eq!(
        full.decide(site_of(ACME, new, "more.example")),
        Err(Rejection::TooManySites)
    );
    assert_eq!(full.decide(issue("morekeys")), Err(Rejection::TooManyKeys));
    full.decide(revoke("k0000001")).unwrap();
    full.decide(site_of(OTHER, new, "more.example")).unwrap();
    let theirs = PrincipalId::new(Uuid::from_u128(8));
    full.decide(issue_to(OTHER, theirs, "morekeys", &[Scope::Read]))
        .unwrap();
}

#[test]
fn every_rejection_is_reached() {
    let full = full();
    let given = given([site("example.org"), issue("somekey1")]);
    let erased = self::given([issue("somekey1"), erase(ACME, ADA)]);
    let none = TenantId::new(Uuid::nil());
    let rejections = [
        given.decide(tenant(ACME, "new")),
        given.decide(tenant(none, "acme")),
        given.decide(site_of(ACME, SiteId::new(Uuid::nil()), "example.org")),
        given.decide(issue_to(none, ADA, "somekey2", &[Scope::Read])),
        given.decide(issue_to(OTHER, ADA, "somekey2", &[Scope::Read])),
        full.decide(site_of(ACME, SiteId::new(Uuid::nil()), "more.example")),
        full.decide(issue("morekeys")),
        given.decide(revoke("nokeyhere")),
        given.decide(erase(OTHER, ADA)),
        erased.decide(issue("somekey2")),
        given.decide(issue_to(ACME, ADA, "somekey2", &[])),
        given.decide(issue_to(ACME, ADA, "somekey2", &[Scope::Operator])),
        given.decide(raise(1, 0)),
        self::given([raise(1, 1)]).decide(raise(0, 1)),
    ];
    assert_all_kinds(
        Rejection::KINDS,
        rejections
            .iter()
            .map(|refused| refused.as_ref().unwrap_err().kind()),
    );
    assert_eq!(
        given.decide(site("other.example")),
        Err(Rejection::IdInUse),
        "a site's id, too"
    );
}
