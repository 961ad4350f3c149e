//! The analysts' views lead to the generation that answers.

use read_models::{Error, Projection, Writer, clickhouse};

use crate::runner::feed::chain;

/// Leads them there; in PostgreSQL makes those anew that somebody has replaced, when they lead there `already`. False while
/// its tables are still to be made.
pub(super) async fn show(
    control: &Writer,
    rows: &clickhouse::Writer,
    (projection, generation): (Projection, i32),
    already: bool,
) -> Result<bool, String> {
    let text = |error: Error| chain(&error);
    let there = |error: clickhouse::Error| chain(&error);
    match projection {
        Projection::Directory | Projection::Content | Projection::Downloads => {
            if already {
                let otherwise = control
                    .shown_otherwise(projection, generation)
                    .await
                    .map_err(text)?;
                if otherwise.is_empty() {
                    return Ok(true);
                }
                let views = otherwise.join(", ");
                tracing::warn!(%projection, generation, views, "somebody has replaced views of `live`: making them anew");
            }
            control.show_live(projection, generation).await.map_err(text)?;
            return Ok(true);
        }
        Projection::Visits if rows.has_visits(generation).await.map_err(there)? => {
            rows.show_visits(generation).await.map_err(there)?;
        }
        Projection::ContentFacts if rows.has_facts(generation).await.map_err(there)? => {
            rows.show_facts(generation).await.map_err(there)?;
        }
        Projection::Visits | Projection::ContentFacts => return Ok(false),
    }
    control.shown(projection, generation).await.map_err(text)?;
    Ok(true)
}
