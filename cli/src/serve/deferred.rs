//! Settings that only some roles need: whether they are complete is asked when a role needs them.

use std::collections::HashSet;

use clap::{ArgMatches, Args, Command, FromArgMatches};

/// The settings of a part, or what is missing of them.
#[derive(Debug)]
pub(super) struct Deferred<T>(Result<T, clap::Error>);

impl<T> Deferred<T> {
    /// The settings.
    ///
    /// # Errors
    /// One that this part needs was not given; the text names its variable.
    pub(super) fn needed(self) -> anyhow::Result<T> {
        self.0.map_err(|error| {
            let text = error.to_string();
            // clap names the field: `…: postgres_reader_url`.
            let field = text.trim().rsplit(' ').next().unwrap_or_default();
            anyhow::anyhow!(
                "ANNALS_{} is not set, and this role needs it (see .env.sample)",
                field.to_uppercase()
            )
        })
    }
}

impl<T: Args> Args for Deferred<T> {
    fn augment_args(command: Command) -> Command {
        let known: HashSet<_> = command
            .get_arguments()
            .map(|argument| argument.get_id().clone())
            .collect();
        T::augment_args(command).mut_args(|argument| {
            if known.contains(argument.get_id()) {
                argument
            } else {
                argument.required(false)
            }
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<T: FromArgMatches> FromArgMatches for Deferred<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(T::from_arg_matches(matches)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0 = T::from_arg_matches(matches);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Args)]
    struct Part {
        #[arg(long)]
        url: String,
    }

    #[derive(Debug, Parser)]
    struct Whole {
        #[command(flatten)]
        part: Deferred<Part>,
    }

    #[test]
    fn what_is_missing_is_said_when_it_is_needed() {
        let whole = Whole::try_parse_from(["x"]).unwrap();
        assert!(
            whole
                .part
                .needed()
                .unwrap_err()
                .to_string()
                .starts_with("ANNALS_URL is not set")
        );
        let whole = Whole::try_parse_from(["x", "--url", "u"]).unwrap();
        assert_eq!(whole.part.needed().unwrap().url, "u");
    }
}
