//! Rows of `events` and `sessions` as the projector hands them over.

use uuid::Uuid;

use crate::clickhouse::native::native_columns;

/// The campaign parameters that have columns, in the order of the arrays below.
pub const UTM: [&str; 5] = ["source", "medium", "campaign", "content", "term"];

/// Digits after the decimal point of `revenue`.
pub const REVENUE_SCALE: usize = 9;

/// One row of `events`. Empty texts stand for what is absent.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the columns are documented in the migration")]
pub struct EventRow<'a> {
    pub tenant: Uuid,
    pub site: Uuid,
    /// Microseconds since 1970, UTC.
    pub time: i64,
    pub name: &'a str,
    pub visitor: u64,
    pub session: u64,
    pub hostname: &'a str,
    pub pathname: &'a str,
    pub referrer: &'a str,
    pub source: &'a str,
    pub device: &'a str,
    pub browser: &'a str,
    pub os: &'a str,
    /// In the order of [`UTM`].
    pub utm: [&'a str; 5],
    pub content: Option<Uuid>,
    /// Times 10⁹.
    pub revenue: Option<i128>,
    pub currency: &'a str,
    pub interactive: bool,
    pub engaged_ms: u32,
    pub scroll_depth: Option<u8>,
    /// Import and line.
    pub import: Option<(Uuid, u64)>,
    pub id: Uuid,
    pub place: Place,
}

/// Where an event stands in `annals.visits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Place {
    pub partition: u32,
    pub offset: u64,
    /// In the record, from 0.
    pub index: u32,
}

/// One row of `sessions`: its complete state.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the columns are documented in the migration")]
pub struct SessionRow<'a> {
    pub tenant: Uuid,
    pub site: Uuid,
    pub opened: i64,
    pub session: u64,
    pub visitor: u64,
    pub start: i64,
    pub last: i64,
    pub pageviews: u32,
    pub events: u32,
    pub is_bounce: bool,
    pub hostname: &'a str,
    pub entry_page: &'a str,
    pub exit_page: &'a str,
    pub referrer: &'a str,
    pub source: &'a str,
    pub device: &'a str,
    pub browser: &'a str,
    pub os: &'a str,
    pub utm: [&'a str; 5],
    pub import: Option<Uuid>,
    pub partition: u32,
    /// Its version.
    pub offset: u64,
}

native_columns! {
    /// Rows of `events`, column by column.
    EventColumns {
        tenant: column "UUID",
        site: column "UUID",
        time: column "DateTime64(6, 'UTC')",
        name: dictionary "LowCardinality(String)",
        visitor: column "UInt64",
        session: column "UInt64",
        hostname: dictionary "LowCardinality(String)",
        pathname: column "String",
        referrer: column "String",
        source: dictionary "LowCardinality(String)",
        device: dictionary "LowCardinality(String)",
        browser: dictionary "LowCardinality(String)",
        os: dictionary "LowCardinality(String)",
        utm_source: dictionary "LowCardinality(String)",
        utm_medium: dictionary "LowCardinality(String)",
        utm_campaign: dictionary "LowCardinality(String)",
        utm_content: dictionary "LowCardinality(String)",
        utm_term: dictionary "LowCardinality(String)",
        content: column "Nullable(UUID)",
        props: lists "Map(String, String)",
        revenue: column "Nullable(Decimal(38, 9))",
        currency: dictionary "LowCardinality(String)",
        interactive: column "Bool",
        engaged_ms: column "UInt32",
        scroll_depth: column "Nullable(UInt8)",
        import: column "Nullable(UUID)",
        import_line: column "UInt64",
        id: column "UUID",
        log_partition: column "UInt32",
        log_offset: column "UInt64",
        log_index: column "UInt32",
    }
}

impl EventColumns {
    /// Appends a row.
    pub fn push<'p>(&mut self, row: &EventRow<'_>, props: impl IntoIterator<Item = (&'p str, &'p str)>) {
        self.rows += 1;
        self.tenant.uuid(row.tenant);
        self.site.uuid(row.site);
        self.time.micros(row.time);
        self.name.text(row.name);
        self.visitor.u64(row.visitor);
        self.session.u64(row.session);
        self.hostname.text(row.hostname);
        self.pathname.text(row.pathname);
        self.referrer.text(row.referrer);
        self.source.text(row.source);
        self.device.text(row.device);
        self.browser.text(row.browser);
        self.os.text(row.os);
        let [source, medium, campaign, content, term] = row.utm;
        self.utm_source.text(source);
        self.utm_medium.text(medium);
        self.utm_campaign.text(campaign);
        self.utm_content.text(content);
        self.utm_term.text(term);
        self.content.optional_uuid(row.content);
        self.props.map(props);
        self.revenue.optional_i128(row.revenue);
        self.currency.text(row.currency);
        self.interactive.u8(row.interactive.into());
        self.engaged_ms.u32(row.engaged_ms);
        self.scroll_depth.optional_u8(row.scroll_depth);
        self.import.optional_uuid(row.import.map(|(import, _)| import));
        self.import_line.u64(row.import.map_or(0, |(_, line)| line));
        self.id.uuid(row.id);
        self.log_partition.u32(row.place.partition);
        self.log_offset.u64(row.place.offset);
        self.log_index.u32(row.place.index);
    }

    pub(crate) const fn structure() -> (&'static str, &'static str) {
        (Self::NAMES, Self::STRUCTURE)
    }
}

native_columns! {
    /// Rows of `sessions`, column by column.
    SessionColumns {
        tenant: column "UUID",
        site: column "UUID",
        opened: column "DateTime64(6, 'UTC')",
        session: column "UInt64",
        visitor: column "UInt64",
        start: column "DateTime64(6, 'UTC')",
        last: column "DateTime64(6, 'UTC')",
        duration: column "UInt32",
        pageviews: column "UInt32",
        events: column "UInt32",
        is_bounce: column "Bool",
        hostname: dictionary "LowCardinality(String)",
        entry_page: column "String",
        exit_page: column "String",
        referrer: column "String",
        source: dictionary "LowCardinality(String)",
        device: dictionary "LowCardinality(String)",
        browser: dictionary "LowCardinality(String)",
        os: dictionary "LowCardinality(String)",
        utm_source: dictionary "LowCardinality(String)",
        utm_medium: dictionary "LowCardinality(String)",
        utm_campaign: dictionary "LowCardinality(String)",
        utm_content: dictionary "LowCardinality(String)",
        utm_term: dictionary "LowCardinality(String)",
        import: column "Nullable(UUID)",
        log_partition: column "UInt32",
        log_offset: column "UInt64",
    }
}

impl SessionColumns {
    /// Appends a row.
    pub fn push(&mut self, row: &SessionRow<'_>) {
        self.rows += 1;
        self.tenant.uuid(row.tenant);
        self.site.uuid(row.site);
        self.opened.micros(row.opened);
        self.session.u64(row.session);
        self.visitor.u64(row.visitor);
        self.start.micros(row.start);
        self.last.micros(row.last);
        let seconds = row.last.saturating_sub(row.start) / 1_000_000;
        self.duration.u32(u32::try_from(seconds).unwrap_or_default());
        self.pageviews.u32(row.pageviews);
        self.events.u32(row.events);
        self.is_bounce.u8(row.is_bounce.into());
        self.hostname.text(row.hostname);
        self.entry_page.text(row.entry_page);
        self.exit_page.text(row.exit_page);
        self.referrer.text(row.referrer);
        self.source.text(row.source);
        self.device.text(row.device);
        self.browser.text(row.browser);
        self.os.text(row.os);
        let [source, medium, campaign, content, term] = row.utm;
        self.utm_source.text(source);
        self.utm_medium.text(medium);
        self.utm_campaign.text(campaign);
        self.utm_content.text(content);
        self.utm_term.text(term);
        self.import.optional_uuid(row.import);
        self.log_partition.u32(row.partition);
        self.log_offset.u64(row.offset);
    }

    pub(crate) const fn structure() -> (&'static str, &'static str) {
        (Self::NAMES, Self::STRUCTURE)
    }
}

/// What makes an event's row the same row: summed over a range (wrapping), it is the range's fingerprint.
/// ClickHouse computes the same from what stands in the table; see `store.rs`.
pub fn mark(id: Uuid, place: Place) -> u64 {
    let (_, low) = id.as_u64_pair();
    low ^ place
        .offset
        .wrapping_mul(1_000_003)
        .wrapping_add(u64::from(place.index))
}
