//! The time of day, for the few places that put it into the log.

use events::Timestamp;

/// Now.
pub(crate) fn now() -> Timestamp {
    chrono::Utc::now().into()
}
