//! `eventually`'s `Aggregate` for the pure aggregates of `events`.
//!
//! The trait's futures suit aggregates that do I/O; ours never do, so what it returns is ready at once.
//! This is the decision path of every command: [`decide`] goes through the trait.

use std::marker::PhantomData;

use events::Timestamp;
use eventually::aggregate::Aggregate;
use futures::future::{BoxFuture, FutureExt, ready};

/// An aggregate of the domain as `eventually` sees it: what its rules need to know comes with it.
pub struct Pure<'a, A: events::Aggregate> {
    lookup: &'a A::Lookup<'a>,
    at: Timestamp,
    aggregate: PhantomData<fn() -> A>,
}

impl<'a, A: events::Aggregate> Pure<'a, A> {
    /// The aggregate at this time, beside these others.
    pub fn new(lookup: &'a A::Lookup<'a>, at: Timestamp) -> Self {
        Self {
            lookup,
            at,
            aggregate: PhantomData,
        }
    }
}

impl<A> Aggregate for Pure<'_, A>
where
    A: events::Aggregate,
    A::Event: Send + 'static,
    A::Rejection: Send + 'static,
{
    type Id = ();
    type State = A;
    type Event = A::Event;
    type Command = A::Command;
    type Error = A::Rejection;

    fn apply(state: A, event: A::Event) -> Result<A, A::Rejection> {
        Ok(state.evolve(&event))
    }

    fn handle<'a, 's: 'a>(
        &'a self,
        (): &'s (),
        state: &'s A,
        command: A::Command,
    ) -> BoxFuture<'a, Result<Option<Vec<A::Event>>, A::Rejection>> {
        let decided = state.decide(command, self.lookup, self.at);
        ready(decided.map(|events| (!events.is_empty()).then_some(events))).boxed()
    }
}

/// What the aggregate answers to a command; no events when everything is as asked for already.
///
/// # Errors
/// The rule that stands in the way.
pub fn decide<'a, A>(
    state: &A,
    command: A::Command,
    lookup: &'a A::Lookup<'a>,
    at: Timestamp,
) -> Result<Vec<A::Event>, A::Rejection>
where
    A: events::Aggregate,
    A::Event: Send + 'static,
    A::Rejection: Send + 'static,
{
    let aggregate = Pure::<A>::new(lookup, at);
    // A future that is ready at once is never pending.
    match aggregate.handle(&(), state, command).now_or_never() {
        Some(decided) => decided.map(Option::unwrap_or_default),
        None => Ok(Vec::new()),
    }
}
