//! `annals erase SUBJECT`.

use std::{process::ExitCode, time::Duration};

use anyhow::bail;
use reqwest::Method;

use crate::client::{Client, Connection, Request};

/// Make the personal fields of a subject unreadable for ever, in the log and in every table, by destroying their key. Needs a
/// key with the scope admin, or an operator's. Keys of the principal go on working until `annals keys revoke` ends them.
#[derive(Debug, clap::Args)]
pub(crate) struct Erase {
    /// The id of a principal: `annals keys create` prints it, and the view `keys` has it (`annals export keys`).
    subject: uuid::Uuid,
    /// There is no way back: say so.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    connection: Connection,
}

impl Erase {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let subject = self.subject;
        if !self.yes {
            bail!("what is erased cannot be brought back: say --yes to erase {subject}");
        }
        let request = Request::command(Method::POST, format!("api/v1/subjects/{subject}/erase"), None);
        // When it is not answered in time the erasure may stand all the same; saying it again is no harm.
        Client::new(&self.connection, Duration::from_secs(10))?
            .send(request)
            .await?;
        println!("{subject} is erased");
        eprintln!("Its keys go on working until they are revoked: annals keys revoke ID");
        Ok(ExitCode::SUCCESS)
    }
}
