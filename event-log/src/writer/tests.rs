//! One test for each rule; then two writers against one simulated log with every fault of a network.

mod rules;
mod simulation;

pub(crate) use self::rules::commit;

/// Mistakes that the simulation must catch, each the omission of one rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bug {
    None,
    /// Rule 3: an offset alone is taken for an admission.
    AcknowledgeOnGap,
    /// Rule 2: goes on after a failed append.
    KeepEpochAfterFailure,
    /// Rule 5: answers at once.
    AnswerWithoutEnd,
    /// Reads without the admission rule.
    SkipAdmission,
}
