//! `annals operator-key`.

use std::process::ExitCode;

/// Print a new operator key, for ANNALS_OPERATOR_KEY. Nothing is kept of it.
#[derive(Debug, clap::Args)]
pub(crate) struct OperatorKey {}

impl OperatorKey {
    pub(crate) fn run(self) -> ExitCode {
        println!("{}", service::key::Key::make().reveal());
        ExitCode::SUCCESS
    }
}
