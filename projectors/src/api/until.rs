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
                let example =
                    format!("says what it is called, as in {projection}_at: it is needed with until");
                return Err(wrong("/into", example));
            }
            (None, Some(_)) => {
                return Err(wrong("/until", "is a position or a time: it is needed with into"));
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

#[cfg(test)]
mod tests {
    use event_log::{LogConfig, Partition, Store};

    use super::*;

    #[tokio::test]
    async fn what_cannot_be_is_refused_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::open(LogConfig {
            store: Store::Embedded {
                dir: folder.path().to_owned(),
            },
            ledger_partitions: Some(2),
            visits_partitions: Some(2),
            development: true,
        });
        let log = log.await.unwrap();
        let end = log.end(Partition::ledger(1)).await.unwrap();
        let at = |log| Position::new(log).at(Topic::Ledger, 1, end);
        let ours = at(log.id().0);
        let read = async |until: Option<String>, into: Option<&str>| {
            Until::read(&log, Projection::Content, until.as_deref(), into).await
        };
        let (name, time) = (Some("content_at"), "2026-11-21T17:03:00+01:00");
        let future = (Utc::now() + chrono::Duration::days(1)).to_rfc3339();
        let beyond = ours.clone().at(Topic::Ledger, 1, end + 1);
        let foreign = ours.clone().at(Topic::Ledger, 2, 0);
        let elsewhere = Position::new(log.id().0).at(Topic::Visits, 0, 1);
        let other = at(uuid::Uuid::nil());
        for (until, into, status, text) in [
            (Some(time.to_owned()), None, 422, "/into"),
            (None, name, 422, "/until"),
            (
                Some(time.to_owned()),
                Some("posts_at"),
                422,
                "is content_at, or content_at_",
            ),
            (Some("yesterday".to_owned()), name, 422, "neither a time"),
            (Some(future), name, 422, "future"),
            (Some(elsewhere.to_string()), name, 422, "nothing of the ledger"),
            (Some(other.to_string()), name, 400, "another log"),
            (Some(beyond.to_string()), name, 400, "beyond the end"),
            (Some(foreign.to_string()), name, 400, "beyond the end"),
        ] {
            let problem = Problem::from(read(until, into).await.unwrap_err());
            let body = serde_json::to_string(&problem).unwrap();
            assert!(
                problem.status() == status && body.contains(text),
                "{text}: {body}"
            );
        }
        assert!(read(None, None).await.unwrap().is_none());
        let until = read(Some(ours.to_string()), name).await.unwrap().unwrap();
        assert_eq!(until.cut, Cut::Places(vec![0, end]));
        let until = read(Some(time.to_owned()), name).await.unwrap().unwrap();
        assert_eq!(until.text, "2026-11-21T16:03:00Z");
        log.close().await;
    }
}
