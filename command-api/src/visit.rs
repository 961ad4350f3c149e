//! What is made of a visit at the door: from a tracker's words to an event, without address and user agent.
//!
//! Reading order: this page (a hit, and the event that it becomes), then the two forms in which hits arrive,
//! [`tracker`] and [`batch`]; then what is derived: [`page`], [`referrer`], [`agent`], [`props`].
//! Everything here is a pure function; who asks brings the site, the salt's visitor and the time.

pub mod agent;
pub mod batch;
pub mod page;
pub mod props;
pub mod referrer;
pub mod tracker;

use std::{borrow::Cow, collections::BTreeMap, fmt, ops::Deref};

use events::{
    ContentId, SiteId, VisitorId,
    event::VisitEvent,
    visit::{CustomEventRecorded, EngagementRecorded, ImportLine, PageViewed, Revenue, Visit},
};
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Unexpected, Visitor, value::MapAccessDeserializer},
};
use service::FieldError;

pub use agent::Agent;
pub use page::Page;
pub use props::Props;

/// Something that a visitor did, read and checked: what it was, where, coming from where.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "as in the events")]
pub struct Hit {
    pub page: Page,
    /// As it was sent; what it means depends on the site.
    pub referrer: Option<String>,
    pub props: BTreeMap<String, String>,
    pub deed: Deed,
}

/// What a visitor did.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "as in the events")]
pub enum Deed {
    PageView,
    Custom {
        name: String,
        interactive: bool,
        revenue: Option<Revenue>,
    },
    Engagement {
        engaged_ms: u32,
        scroll_depth: Option<u8>,
    },
}

/// Why a hit that is well-formed is not kept. The text is stable: it is the value of `x-annals-dropped`, the
/// `reason` of the batch form, and a metric's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dropped {
    /// No site of the caller's, or of anyone for trackers, has this domain.
    UnknownSite,
    /// The user agent is a program's.
    Bot,
    /// There is no user agent: browsers have one.
    NoUserAgent,
    /// It could not be found out now whether there is such a site.
    Unavailable,
}

impl Dropped {
    /// All reasons, for metrics that start at zero.
    pub const ALL: [Self; 4] = [Self::UnknownSite, Self::Bot, Self::NoUserAgent, Self::Unavailable];

    /// The reason as it is told.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::UnknownSite => "unknown-site",
            Self::Bot => "bot",
            Self::NoUserAgent => "no-user-agent",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Where and by whom a hit is recorded: what only the caller knows.
#[derive(Debug, Clone)]
pub struct Place<'a> {
    /// The site.
    pub site: SiteId,
    /// Its domain: who comes from there comes from nowhere else.
    pub domain: &'a str,
    /// The visitor of the day.
    pub visitor: VisitorId,
    /// What the user agent is.
    pub agent: Agent,
    /// The piece of content that was viewed, where the viewer said so.
    pub content: Option<ContentId>,
    /// The line that it was imported from.
    pub import: Option<ImportLine>,
}

impl Hit {
    /// A view of a page of one's own, as `POST /api/v1/content/{id}/view` has it.
    pub fn view(page: Page, referrer: Option<String>) -> Self {
        Self {
            page,
            referrer,
            props: BTreeMap::new(),
            deed: Deed::PageView,
        }
    }

    /// The event that it is at this place.
    pub fn event(self, place: Place<'_>) -> VisitEvent {
        let Self {
            page,
            referrer,
            props,
            deed,
        } = self;
        let came_from = referrer.and_then(|text| referrer::read(&text, &page.hostname, place.domain));
        let (referrer, named) =
            came_from.map_or((None, None), |from| (Some(from.referrer), Some(from.source)));
        let visit = Visit {
            site: place.site,
            visitor: place.visitor,
            hostname: page.hostname,
            pathname: page.pathname,
            referrer,
            source: page.source.or(named),
            device: place.agent.device.map(str::to_owned),
            browser: place.agent.browser.map(str::to_owned),
            os: place.agent.os.map(str::to_owned),
            utm: page.utm,
            content: place.content,
            props,
            import: place.import,
        };
        match deed {
            Deed::PageView => VisitEvent::PageViewed(PageViewed { visit }),
            Deed::Custom {
                name,
                interactive,
                revenue,
            } => VisitEvent::CustomEventRecorded(CustomEventRecorded {
                visit,
                name,
                interactive,
                revenue,
            }),
            Deed::Engagement {
                engaged_ms,
                scroll_depth,
            } => VisitEvent::EngagementRecorded(EngagementRecorded {
                visit,
                engaged_ms,
                scroll_depth,
            }),
        }
    }
}

/// The parts of a hit as a client names them, in either form.
#[derive(Debug, Default)]
struct Parts<'a> {
    name: Option<&'a str>,
    url: Option<&'a str>,
    referrer: Option<&'a str>,
    props: Option<Props>,
    revenue: Option<Money>,
    interactive: Option<bool>,
    engaged_ms: Option<u64>,
    scroll_depth: Option<u8>,
    hash_is_path: bool,
}

/// An amount of money as clients write it, an object or a text that holds one: the amount is a number or a text.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
struct Money {
    #[serde(deserialize_with = "props::scalar")]
    amount: Option<String>,
    currency: String,
}

impl<'de> Deserialize<'de> for Money {
    /// What is derived takes a list, too, which is no object.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MoneyVisitor;

        impl<'de> Visitor<'de> for MoneyVisitor {
            type Value = Money;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of amount and currency")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Money, E> {
                // Never a text within a text.
                let object = text
                    .trim_start()
                    .starts_with('{')
                    .then(|| serde_json::from_str(text));
                object
                    .and_then(Result::ok)
                    .ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Money, A::Error> {
                Money::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_any(MoneyVisitor)
    }
}

/// A text of a body, borrowed from it where it has no escapes.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
struct Borrowed<'a>(#[serde(borrow)] Cow<'a, str>);

impl Borrowed<'_> {
    fn into_owned(self) -> String {
        self.0.into_owned()
    }
}

impl Deref for Borrowed<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// A day: nobody looks at a page for longer without an engagement in between.
const ENGAGED_MAX: u64 = 86_400_000;

impl Parts<'_> {
    /// Reads and checks what both forms share; every wrong field is named.
    fn hit(self) -> Result<Hit, Vec<FieldError>> {
        let mut faults = Vec::new();
        let mut fault = |pointer: &str, detail: String| faults.push(FieldError::new(pointer, detail));
        match self.name {
            None => fault("/name", "is missing".into()),
            Some(name) if name.trim().is_empty() => fault("/name", "must not be empty".into()),
            Some(name) if name.chars().count() > 120 => fault("/name", "has more than 120 characters".into()),
            Some(name) if name.chars().any(char::is_control) => {
                fault("/name", "must not hold control characters".into());
            }
            Some(_) => {}
        }
        let page = match self.url.map(|url| Page::read(url, self.hash_is_path)) {
            None => Err("is missing".to_owned()),
            Some(page) => page.map_err(str::to_owned),
        };
        if let Err(detail) = &page {
            fault("/url", detail.clone());
        }
        let revenue = self.revenue.map(Money::checked).transpose();
        if let Err(detail) = revenue {
            fault("/revenue", detail.into());
        }
        if self.scroll_depth.is_some_and(|depth| depth > 100 && depth != 255) {
            fault("/scroll_depth", "is a percentage, 0 to 100".into());
        }
        let (Some(name), Ok(page), Ok(revenue), true) = (self.name, page, revenue, faults.is_empty()) else {
            return Err(faults);
        };
        let deed = match name.trim() {
            "pageview" => Deed::PageView,
            "engagement" => Deed::Engagement {
                engaged_ms: u32::try_from(self.engaged_ms.unwrap_or(0).min(ENGAGED_MAX)).unwrap_or(u32::MAX),
                scroll_depth: self.scroll_depth.filter(|depth| *depth <= 100), // 255: the tracker does not know
            },
            name => Deed::Custom {
                name: name.to_owned(),
                interactive: self.interactive.unwrap_or(true),
                revenue,
            },
        };
        let referrer = self
            .referrer
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .map(str::to_owned);
        Ok(Hit {
            page,
            referrer,
            props: self.props.unwrap_or_default().into_map(),
            deed,
        })
    }
}

impl Money {
    fn checked(self) -> Result<Revenue, &'static str> {
        let amount = self.amount.ok_or("has no amount")?;
        let digits =
            |text: &str, max| (1..=max).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        let unsigned = amount.strip_prefix('-').unwrap_or(&amount);
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
        if !digits(whole, 15) || !digits(fraction, 6) {
            return Err("the amount is a decimal number, as in 19.99, of at most 15 digits and 6 decimals");
        }
        if self.currency.len() != 3 || !self.currency.bytes().all(|b| b.is_ascii_alphabetic()) {
            return Err("the currency has three letters (ISO 4217), as in EUR");
        }
        Ok(Revenue {
            amount,
            currency: self.currency.to_ascii_uppercase(),
        })
    }
}
