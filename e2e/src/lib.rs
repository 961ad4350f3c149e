//! Everything together, on real engines: what the walkthroughs, the tests of faults and the benchmarks share.
//!
//! [`engines`] are those that `./dev test` and `./dev bench` have started; an [`installation`] is one Annals on them,
//! with databases, a log and processes of its own. [`bench`] is what `./dev bench` runs.

#![forbid(unsafe_code)]

pub mod bench;
pub mod engines;
pub mod faults;
pub mod installation;
pub mod wait;
