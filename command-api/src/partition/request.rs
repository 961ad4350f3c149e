//! What goes into a partition's door.

use std::time::Instant;

use event_log::Offset;
use events::{ContentId, ImportId, TenantId, content::Piece, directory, import::Import, tenant};
use service::places::Place;
use tokio::sync::oneshot;

use super::{decider::Done, idempotency::Hash};
use crate::{command::Context, error::Error};

/// What can be asked of a partition.
#[derive(Debug, Clone)]
pub enum Command {
    /// Of the directory.
    Directory(directory::Command),
    /// Of a tenant's aggregates.
    Tenant(tenant::Command),
}

impl From<directory::Command> for Command {
    fn from(command: directory::Command) -> Self {
        Self::Directory(command)
    }
}

impl From<tenant::Command> for Command {
    fn from(command: tenant::Command) -> Self {
        Self::Tenant(command)
    }
}

/// What arrives at a partition; kept until it is answered, for it may have to be decided again.
pub enum Request {
    /// A client asks.
    Ask {
        /// What.
        command: Command,
        /// Who, with which key, expecting which version.
        context: Box<Context>,
        /// When it arrived.
        arrived: Instant,
        /// Its tenant's.
        place: Place<TenantId>,
        /// Who waits.
        reply: oneshot::Sender<Result<(Done, Offset), Error>>,
    },
    /// Someone wants to know how a piece of content stands.
    Piece {
        /// Whose.
        tenant: TenantId,
        /// Which.
        content: ContentId,
        /// The tenant's.
        place: Place<TenantId>,
        /// Who waits; hears the next offset after what the answer rests on, too.
        reply: oneshot::Sender<Result<(Option<Piece>, Offset), Error>>,
    },
    /// Someone wants to know how an import stands.
    Import {
        /// Whose.
        tenant: TenantId,
        /// Which.
        import: ImportId,
        /// The tenant's.
        place: Place<TenantId>,
        /// Who waits.
        reply: oneshot::Sender<Result<Import, Error>>,
    },
    /// Someone wants to know whether a command had this key: the directory, whose own keys are kept elsewhere.
    Used {
        /// Whose.
        tenant: TenantId,
        /// Which.
        key: Hash,
        /// The tenant's.
        place: Place<TenantId>,
        /// Who waits.
        reply: oneshot::Sender<Result<bool, Error>>,
    },
    /// The time of a scheduled publication has come.
    Due {
        /// Who waits: the timer, so that it asks once at a time.
        reply: oneshot::Sender<()>,
    },
}
