//! What can go wrong with a database, sorted by what is to be done about it.

use uuid::Uuid;

use crate::{Projection, Topic};

/// Why the tables could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value that the tables refuse: the only case that can be a bad event.
    #[error("the tables refuse a value{}", constraint.as_ref().map(|name| format!(" ({name})")).unwrap_or_default())]
    Refused {
        /// The named constraint that it breaks, if one.
        constraint: Option<String>,
        /// What the database says.
        #[source]
        source: sqlx::Error,
    },
    /// Anything that can pass: no connection, a deadlock, a restart, a full disk, tables that are not there yet.
    #[error("the database cannot do it now")]
    Unavailable(#[source] sqlx::Error),
    /// The control tables could not be brought up to date.
    #[error("the control tables could not be migrated")]
    Migration(#[source] sqlx::migrate::MigrateError),
    /// A newer release has been here.
    #[error(
        "a newer release has brought these tables up to date (control migration {0} is not known to this one): start that release, or a newer one"
    )]
    Newer(i64),
    /// Another projector took this partition over, or its checkpoint was moved by someone else.
    #[error("another projector has taken {projection} over for {topic}/{partition}")]
    Fenced {
        /// Of what.
        projection: Projection,
        /// Of which topic.
        topic: Topic,
        /// Of which partition.
        partition: u32,
    },
    /// The checkpoint is not where its holder left it, and nobody has taken it over: a backup, or a server that
    /// fell before it had written what it had confirmed. Rows and checkpoint went back together; take over again.
    #[error(
        "the checkpoint of {projection} for {topic}/{partition} is not where it was left: the database is back at an older state"
    )]
    WentBack {
        /// Of what.
        projection: Projection,
        /// Of which topic.
        topic: Topic,
        /// Of which partition.
        partition: u32,
    },
    /// The tables belong to another log.
    #[error(
        "these read models were made from log {found}, not from log {expected}: give this log a database of its own, or drop the schema annals"
    )]
    OtherLog {
        /// Whose they are.
        found: Uuid,
        /// Whose they should be.
        expected: Uuid,
    },
    /// No generation of the projection answers queries yet.
    #[error("{0} has no live generation yet: its projector has not started")]
    NotLive(Projection),
    /// The projection has no generation of this number.
    #[error("{projection} has no generation {generation}: `annals generations list` shows which there are")]
    NoGeneration {
        /// Which projection.
        projection: Projection,
        /// The number asked for.
        generation: i32,
    },
    /// A generation of the projection is being built already.
    #[error(
        "generation {generation} of {projection} is being built already: `annals rebuild {projection} --watch` shows it \
         (with --rate: by another bound), --cancel gives it up"
    )]
    Building {
        /// Which projection.
        projection: Projection,
        /// Which generation.
        generation: i32,
    },
    /// What a frozen generation was to be called is the name of something else.
    #[error(
        "there is something called {0} already: give another name, or drop the generation of that name first"
    )]
    NameTaken(String),
    /// No generation of the projection is being built.
    #[error("no generation of {0} is being built")]
    NotBuilding(Projection),
    /// A generation that answers queries cannot be dropped.
    #[error("generation {generation} of {projection} answers queries: switch to another one first")]
    IsLive {
        /// Which projection.
        projection: Projection,
        /// Which generation.
        generation: i32,
    },
    /// A generation to which the analysts' views still lead cannot be dropped: what is built on them would go with it.
    #[error(
        "the analysts' views still lead to generation {generation} of {projection}: they follow a switch within a second; when they do not, `annals status` and the projectors' log say what is in the way"
    )]
    IsShown {
        /// Which projection.
        projection: Projection,
        /// Which generation.
        generation: i32,
    },
    /// A generation that stays at a place in the log answers nobody who asks for the present.
    #[error("generation {generation} of {projection} stays where it was cut, and can never be the live one")]
    Frozen {
        /// Which projection.
        projection: Projection,
        /// Which generation.
        generation: i32,
    },
    /// The generation has not come as far as the live one.
    #[error(
        "generation {generation} of {projection} is behind the live one and does not come up to it: is it of another release, whose projector does not run?"
    )]
    Behind {
        /// Which projection.
        projection: Projection,
        /// Which generation.
        generation: i32,
    },
    /// The generation has parked what the live one has not.
    #[error(
        "generation {generation} of {projection} has parked {subject}, which the live one has not: retry or skip it first"
    )]
    ParkedMore {
        /// Which projection.
        projection: Projection,
        /// Which generation.
        generation: i32,
        /// An aggregate that is parked.
        subject: String,
    },
    /// A configuration that cannot work, such as a URL that cannot be read.
    #[error("{0}")]
    Configuration(String),
}

impl Error {
    /// Whether the same rows may be written some time later: an outage, never a bad event.
    pub const fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Unavailable(_) | Self::NotLive(_) | Self::Behind { .. }
        )
    }

    /// Whether the database does not let this user in, or is not there: at a start a person has to see to it. (Later it
    /// is an outage like any other.)
    pub fn is_misconfigured(&self) -> bool {
        let Self::Unavailable(source) = self else {
            return false;
        };
        // Classes of SQLSTATE: 28 who asks, 3D the name of the database.
        let code = source.as_database_error().and_then(|error| error.code());
        code.is_some_and(|code| ["28", "3D"].iter().any(|class| code.starts_with(class)))
    }
}

impl From<sqlx::Error> for Error {
    fn from(source: sqlx::Error) -> Self {
        // Classes of SQLSTATE: 21 cardinality, 22 data, 23 integrity, 54 a limit of the program.
        let code = source.as_database_error().and_then(|error| error.code());
        let refused = matches!(source, sqlx::Error::Encode(_))
            || code.is_some_and(|code| {
                ["21", "22", "23", "54"]
                    .iter()
                    .any(|class| code.starts_with(class))
            });
        if refused {
            let constraint = source
                .as_database_error()
                .and_then(|e| e.constraint())
                .map(str::to_owned);
            Self::Refused { constraint, source }
        } else {
            Self::Unavailable(source)
        }
    }
}
