//! Where a projection is to be cut, as an operator says it: a position of this log, or a time.

use chrono::{DateTime, SecondsFormat, Utc};
use event_log::Log;
use read_models::{
    Projection,
    generation::frozen::{Cut, Name},
};
use service::{
    FieldError, Position, Problem,
    position::{InvalidPosition, Topic},
};

use super::error::Error;
use crate::run::topic;

/// What is to be built, checked.
#[derive(Debug)]
pub(super) struct Until {
    pub(super) name: Name,
    /// As people are told.
    pub(super) text: String,
    pub(super) cut: Cut,
}

impl Until {
    /// Reads both parts of the wish; none when neither is there.
    pub(super) async fn read(
        log: &Log,
        projection: Projection,
        until: Option<&str>,
        into: Option<&str>,
    ) -> Result<Option<Self>, Error> {
        let (until, into) = match (until, into) {
            (None, None) => return Ok(None),
            (Some(until), Some(into)) => (until, into),
            (Some(_), None) => {
                let example = format!("says what it is called, as in {projection}_at: it is needed with until");
                return Err(wrong("/into", example));
            }
            (None, Some(_)) => {
                return Err(wrong(
                    "/until",
                    "is a position or a time: it is needed with into",
                ));
            }
        };
        let name = Name::parse(projection, into).map_err(|error| wrong("/into", error.to_string()))?;
        if let Ok(time) = DateTime::parse_from_rfc3339(until) {
            let time = time.with_timezone(&Utc);
            if time > Utc::now() {
                return Err(wrong(
                    "/until",
                    "is in the future: nobody knows yet what was committed then",
                ));
            }
            let text = time.to_rfc3339_opts(SecondsFormat::AutoSi, true);
            let cut = Cut::Time(time);
            return Ok(Some(Self { name, text, cut }));
        }
        let position = match until.parse::<Position>() {
            Ok(position) => position,
            Err(InvalidPosition::Unreadable) => {
                let text = "is neither a time of RFC 3339, such as 2026-11-21T16:03:00Z, nor an Annals-Position as a command's answer gives it";
                return Err(wrong("/until", text));
            }
            Err(error) => return Err(Problem::from(error).into()),
        };
        let cut = Cut::Places(places(log, projection, &position).await?);
        let text = until.to_owned();
        Ok(Some(Self { name, text, cut }))
    }
}

/// Where a position cuts each partition of a projection's topic: one that it does not name is cut at its beginning.
async fn places(log: &Log, projection: Projection, position: &Position) -> Result<Vec<u64>, Error> {
    if position.log() != log.id().0 {
        return Err(Problem::from(InvalidPosition::OtherLog).into());
    }
    let topic = topic(projection);
    let theirs = Topic::from_name(topic.short());
    let mut places = Vec::new();
    let mut named = 0;
    for partition in log.all(topic) {
        let place = theirs.and_then(|topic| position.get(topic, partition.index));
        named += usize::from(place.is_some());
        let place = place.unwrap_or(0);
        let end = log.end(partition).await.map_err(crate::verify::Error::from)?;
        if place > end {
            return Err(Problem::from(InvalidPosition::BeyondEnd).into());
        }
        places.push(place);
    }
    let all = position.parts().filter(|(topic, ..)| Some(*topic) == theirs);
    if all.count() > named {
        // It names a partition that there is not.
        return Err(Problem::from(InvalidPosition::BeyondEnd).into());
    }
    if named == 0 {
        let text = format!(
            "says nothing of the {}, which {projection} is folded from: give the position of a command that wrote there, or a time",
            topic.short()
        );
        return Err(wrong("/until", text));
    }
    Ok(places)
}

fn wrong(pointer: &str, text: impl Into<String>) -> Error {
    Problem::invalid(vec![FieldError::new(pointer, text.into())]).into()
}
