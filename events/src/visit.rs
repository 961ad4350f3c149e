//! What visitors do. Recorded, never decided: no versions, no rejections.
//!
//! Addresses and user agents are never stored: what statistics need of them is derived at the door.

use std::{borrow::Cow, collections::BTreeMap};

use percent_encoding::percent_decode_str;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ContentId, ImportId, SiteId, VisitorId, Whole};

/// A path as visits have it: percent-decoded, unless that gives something else than UTF-8 without control characters.
pub fn plain_path(path: &str) -> Cow<'_, str> {
    match percent_decode_str(path).decode_utf8() {
        Ok(plain) if !plain.chars().any(char::is_control) => plain,
        Ok(_) | Err(_) => path.into(),
    }
}

/// Where and by whom: what every event of a visit says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Visit {
    /// The site.
    pub site: SiteId,
    /// The visitor of that day.
    pub visitor: VisitorId,
    /// Of the page's URL, lower case.
    pub hostname: String,
    /// Of the page's URL, from the first slash on, without query and fragment.
    pub pathname: String,
    /// Host and path of the page that led here; absent for none and for the site itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub referrer: Option<String>,
    /// What the referrer or the campaign is called, such as `Google`; absent for direct visits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// `Desktop`, `Mobile` or `Tablet`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Such as `Firefox`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub browser: Option<String>,
    /// Such as `Linux`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os: Option<String>,
    /// Campaign parameters of the URL (`utm_source`, …), without the prefix.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub utm: BTreeMap<String, String>,
    /// The piece of content that was viewed, where the viewer said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<ContentId>,
    /// What the site's own tracker adds: at most 30 texts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub props: BTreeMap<String, String>,
    /// The file and the line that it was imported from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub import: Option<ImportLine>,
}

/// A line of an import; a fold drops lines that are not above the import's mark in the partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportLine {
    /// Which import.
    pub id: ImportId,
    /// Which line, from 0.
    pub line: Whole,
}

/// A page was viewed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PageViewed {
    /// Where and by whom.
    pub visit: Visit,
}

/// Something that the site has a name for happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CustomEventRecorded {
    /// Where and by whom.
    pub visit: Visit,
    /// The site's name for it, at most 120 characters.
    #[schemars(length(min = 1, max = 120))]
    pub name: String,
    /// Whether it keeps a visit from being a bounce.
    pub interactive: bool,
    /// What it brought in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revenue: Option<Revenue>,
}

/// An amount of money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Revenue {
    /// A decimal string, such as `19.99`.
    pub amount: String,
    /// ISO 4217, such as `EUR`.
    pub currency: String,
}

/// Someone read on: sent by trackers when a page is left or hidden.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EngagementRecorded {
    /// Where and by whom.
    pub visit: Visit,
    /// Milliseconds that the page was looked at since the last such event.
    pub engaged_ms: u32,
    /// How far down, in percent, 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100))]
    pub scroll_depth: Option<u8>,
}
