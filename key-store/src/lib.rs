//! What must be destroyable and so is not in the log: salts of visitor ids, keys of subjects.
//!
//! Reading order: [`store`] (connecting, the installation's secret), [`salt`] (visitor ids),
//! [`subject`] (personal fields), [`secret`] (how a secret is held and wrapped).
//!
//! The log is for ever, this is not: it is backed up on its own, with a short memory, and never rebuilt.

#![forbid(unsafe_code)]

pub mod salt;
pub mod secret;
pub mod store;
pub mod subject;

pub use salt::{ImportSalt, Salt};
pub use secret::{InvalidMasterKey, MasterKey};
pub use store::{ConnectError, KeyStore, KeyStoreError};
