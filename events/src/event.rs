//! Every event on one screen: wire name, variant, payload.
//!
//! A released name is never changed: a new shape is a new version beside it and an upcast.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, de::Error};

use crate::{content, directory, download, import, upcast, visit};

/// Defines the families of events, and from the same lines their wire names, codec and schemas.
macro_rules! events {
    ($($(#[$family_doc:meta])* $family:ident: $enum:ident {
        $($wire:tt => $variant:ident($payload:ty),)+
    })+) => {
        $(
            $(#[$family_doc])*
            #[derive(Debug, Clone, PartialEq, Serialize)]
            #[serde(untagged)]
            #[expect(missing_docs, reason = "each variant is documented at its payload")]
            pub enum $enum { $($variant($payload),)+ }

            impl $enum {
                /// The names on the wire of this family's current events.
                pub const NAMES: &'static [&'static str] = &[$($wire),+];
            }

            $(impl From<$payload> for $enum {
                fn from(payload: $payload) -> Self {
                    Self::$variant(payload)
                }
            })+

            $(impl From<$payload> for Event {
                fn from(payload: $payload) -> Self {
                    Self::$family($enum::$variant(payload))
                }
            })+

            impl From<$enum> for Event {
                fn from(event: $enum) -> Self {
                    Self::$family(event)
                }
            }
        )+

        /// Whatever can happen.
        #[derive(Debug, Clone, PartialEq, Serialize)]
        #[serde(untagged)]
        #[expect(missing_docs, reason = "each family is documented at its own enum")]
        pub enum Event { $($family($enum),)+ }

        impl Event {
            /// The name on the wire: a CloudEvents `type`, such as `content.published.v1`.
            pub const fn wire_name(&self) -> &'static str {
                match self { $($(Self::$family($enum::$variant(_)) => $wire,)+)+ }
            }

            /// Reads the `data` of an event of this name.
            ///
            /// # Errors
            /// A name or version that this release does not know, or data that does not fit its name.
            pub(crate) fn decode(name: &str, data: &str) -> Result<Self, DecodeEventError> {
                if let Some(upcast) = upcast::steps(name, data) {
                    let (name, data) = upcast.map_err(DecodeEventError::Data)?;
                    return Self::decode_current(name, &data);
                }
                Self::decode_current(name, data)
            }

            fn decode_current(name: &str, data: &str) -> Result<Self, DecodeEventError> {
                match name {
                    $($($wire => serde_json::from_str::<$payload>(data)
                        .map(|payload| Self::$family($enum::$variant(payload)))
                        .map_err(DecodeEventError::Data),)+)+
                    _ => Err(DecodeEventError::Unknown),
                }
            }

            /// Reads `data` of a current version where it stands; other names are an error.
            pub(crate) fn deserialize_current<'de, D: Deserializer<'de>>(name: &str, data: D) -> Result<Self, D::Error> {
                match name {
                    $($($wire => <$payload>::deserialize(data)
                        .map(|payload| Self::$family($enum::$variant(payload))),)+)+
                    _ => Err(D::Error::custom("not a current event")),
                }
            }

            /// The JSON Schema of every event's `data`, by wire name.
            pub fn schemas() -> Vec<(&'static str, Schema)> {
                vec![$($(($wire, schema_of::<$payload>()),)+)+]
            }
        }
    };
}

/// Why the data of an event could not be read.
#[derive(Debug)]
pub(crate) enum DecodeEventError {
    Unknown,
    Data(serde_json::Error),
}

fn schema_of<T: JsonSchema>() -> Schema {
    SchemaGenerator::default().into_root_schema_for::<T>()
}

/// A build with the feature `next-event` stands for the next release: it knows one version more, so that two releases
/// can be run side by side before there is a second one.
const ARCHIVED: &str = if cfg!(feature = "next-event") {
    "content.archived.v2"
} else {
    "content.archived.v1"
};

events! {
    /// Of the directory: who and what exists in the whole installation.
    Directory: DirectoryEvent {
        "tenant.created.v1" => TenantCreated(directory::TenantCreated),
        "site.created.v1" => SiteCreated(directory::SiteCreated),
        "principal.created.v1" => PrincipalCreated(directory::PrincipalCreated),
        "principal.erased.v1" => PrincipalErased(directory::PrincipalErased),
        "key.issued.v1" => KeyIssued(directory::KeyIssued),
        "key.revoked.v1" => KeyRevoked(directory::KeyRevoked),
        "installation.feature-level-raised.v1" => FeatureLevelRaised(directory::FeatureLevelRaised),
    }

    /// Of a piece of content, from the first draft on.
    Content: ContentEvent {
        "content.drafted.v1" => Drafted(content::Drafted),
        "content.revised.v1" => Revised(content::Revised),
        "content.slug-changed.v1" => SlugChanged(content::SlugChanged),
        "content.scheduled.v1" => Scheduled(content::Scheduled),
        "content.published.v1" => Published(content::Published),
        "content.unpublished.v1" => Unpublished(content::Unpublished),
        ARCHIVED => Archived(content::Archived),
    }

    /// Of a download in a tenant's queue.
    Download: DownloadEvent {
        "download.queued.v1" => Queued(download::Queued),
        "download.reprioritised.v1" => Reprioritised(download::Reprioritised),
        "download.started.v1" => Started(download::Started),
        "download.completed.v1" => Completed(download::Completed),
        "download.failed.v1" => Failed(download::Failed),
        "download.cancelled.v1" => Cancelled(download::Cancelled),
        "download.retried.v1" => Retried(download::Retried),
    }

    /// Of an import of visits from a file.
    Import: ImportEvent {
        "import.started.v1" => Started(import::Started),
        "import.advanced.v1" => Advanced(import::Advanced),
        "import.completed.v1" => Completed(import::Completed),
    }

    /// What visitors do. Recorded, never decided.
    Visit: VisitEvent {
        "visit.page-viewed.v1" => PageViewed(visit::PageViewed),
        "visit.custom-event-recorded.v1" => CustomEventRecorded(visit::CustomEventRecorded),
        "visit.engagement-recorded.v1" => EngagementRecorded(visit::EngagementRecorded),
    }
}
