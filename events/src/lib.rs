//! The domain: what can happen, what may happen next, and nothing that touches the outside.
//!
//! Reading order: [`event`] (everything that can happen, on one screen), [`envelope`] (who, when, to what),
//! [`aggregate`] (the shape that all share), then one file per aggregate, each in the order events, state,
//! commands, rejections, tests: [`content`], [`download`], [`import`]; [`tenant`] has all three.
//! [`directory`] is the one aggregate above tenants; [`visit`] has events only, for visits are not decided.
//! [`upcast`] is what old versions of events go through, [`feature`] says which may be written yet; [`id`], [`number`], [`time`], [`sealed`] are the words.

#![forbid(unsafe_code)]

pub mod aggregate;
pub mod content;
pub mod directory;
pub mod download;
pub mod envelope;
pub mod event;
pub mod feature;
pub mod id;
pub mod import;
pub mod number;
pub mod sealed;
pub mod tenant;
pub mod time;
pub mod upcast;
pub mod visit;

pub use aggregate::{Aggregate, Invalid};
pub use envelope::{DecodeError, Envelope, Recorded};
pub use event::Event;
pub use id::{
    CommandId, ContentId, DownloadId, EventId, ImportId, KeyId, PrincipalId, SiteId, TenantId, VisitorId,
};
pub use number::{Sha256, Whole};
pub use sealed::Sealed;
pub use time::Timestamp;
