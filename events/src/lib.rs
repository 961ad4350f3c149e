//! The domain: what can happen, what may happen next, and nothing that touches the outside.
//!
//! Reading order: [`event`] (everything that can happen, on one screen), [`envelope`] (who, when, to what),
//! then one file per aggregate: [`content`], [`download`], [`import`], [`directory`]; [`visit`] has events only.

pub mod content;
pub mod directory;
pub mod download;
pub mod envelope;
pub mod event;
pub mod id;
pub mod import;
pub mod number;
pub mod sealed;
pub mod time;
pub mod visit;

pub use envelope::{DecodeError, Envelope, Recorded};
pub use event::Event;
pub use id::{
    CommandId, ContentId, DownloadId, EventId, ImportId, KeyId, PrincipalId, SiteId, TenantId, VisitorId,
};
pub use number::{Sha256, Whole};
pub use sealed::Sealed;
pub use time::Timestamp;
