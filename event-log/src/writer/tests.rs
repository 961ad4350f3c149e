//! One test for each rule; then writers in one small world with every fault of a network: each interleaving of a
//! bounded one, and long random walks through a larger one. Mistakes that are made on purpose must show in both.

mod bug;
mod model;
mod rules;
mod walk;
mod world;

pub(crate) use self::rules::commit;
