//! Who waits for what.

use crate::{admission::State, partition::Offset};

/// A commit that was appended and is not yet admitted.
#[derive(Debug, Clone)]
pub(super) struct Sent<T> {
    pub(super) id: u64,
    pub(super) bytes: usize,
    /// The state once it is admitted; by its hash no other commit is taken for it.
    pub(super) after: State,
    pub(super) offset: Option<Offset>,
    pub(super) ticket: T,
}

/// An answer that appends nothing.
#[derive(Debug, Clone)]
pub(super) struct Held<T> {
    pub(super) id: u64,
    /// The last number in the epoch that it was decided on.
    pub(super) rests_on: u64,
    /// The first question for the end that was asked after it arrived.
    pub(super) query: u64,
    /// That question's answer.
    pub(super) end: Option<Offset>,
    pub(super) ticket: T,
}

/// Those whose decision never came into history, to be decided again in their order.
#[derive(Debug, Clone)]
pub(super) struct Orphans<T>(pub(super) Vec<(u64, T)>);

impl<T> Default for Orphans<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Orphans<T> {
    pub(super) fn extend(&mut self, more: impl IntoIterator<Item = (u64, T)>) {
        self.0.extend(more);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take(&mut self) -> impl Iterator<Item = T> + use<T> {
        let mut all = std::mem::take(&mut self.0);
        all.sort_by_key(|(id, _)| *id);
        all.into_iter().map(|(_, ticket)| ticket)
    }
}
