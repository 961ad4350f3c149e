//! Records as lines of text, so that a log can be kept, read by any program, and put into another store: one JSON
//! object for each record, with all that the log holds of it. `schemas/LEDGER.md` has the form.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use events::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::{
    log::{Log, ReadError, Stored},
    partition::{Offset, Partition},
    record::{Headers, Record},
};

/// A record as a line says it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    offset: Offset,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time: Option<Timestamp>,
    key: Option<Text>,
    headers: Vec<(Text, Text)>,
    value: Text,
}

/// Bytes: a text when they are UTF-8.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Text {
    Utf8(String),
    Other { base64: String },
}

impl Text {
    fn new(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Utf8(text.to_owned()),
            Err(_) => Self::Other {
                base64: STANDARD.encode(bytes),
            },
        }
    }

    fn bytes(self) -> Result<Vec<u8>, String> {
        match self {
            Self::Utf8(text) => Ok(text.into_bytes()),
            Self::Other { base64 } => STANDARD.decode(base64).map_err(|error| error.to_string()),
        }
    }
}

/// A record as a line, with its end.
pub fn to_line(stored: &Stored) -> Vec<u8> {
    let Stored { offset, time, record } = stored;
    let headers = record.headers.iter();
    let line = Line {
        offset: *offset,
        time: *time,
        key: record.key.as_deref().map(Text::new),
        headers: headers
            .map(|(name, value)| (Text::new(name), Text::new(value)))
            .collect(),
        value: Text::new(&record.value),
    };
    // Texts and numbers only: nothing that JSON cannot say.
    let mut line = serde_json::to_vec(&line).unwrap_or_default();
    line.push(b'\n');
    line
}

/// The record that a line says.
///
/// # Errors
/// What about it is not as [`to_line`] writes it.
pub fn from_line(line: &[u8]) -> Result<Stored, String> {
    let line: Line = serde_json::from_slice(line).map_err(|error| format!("not a record: {error}"))?;
    let pairs = line
        .headers
        .into_iter()
        .map(|(name, value)| Ok((name.bytes()?, value.bytes()?)));
    let pairs: Vec<(Vec<u8>, Vec<u8>)> = pairs.collect::<Result<_, String>>()?;
    let record = Record {
        key: line.key.map(Text::bytes).transpose()?.map(Bytes::from),
        headers: Headers::new(pairs.iter().map(|(name, value)| (&name[..], &value[..]))),
        value: line.value.bytes()?.into(),
    };
    Ok(Stored {
        offset: line.offset,
        time: line.time,
        record,
    })
}

/// Sends a partition's records from an offset to its end now, as lines, some at a time, and gives that end. It ends
/// early when nobody listens any more.
///
/// # Errors
/// The log cannot be read.
pub async fn export(
    log: &Log,
    partition: Partition,
    from: Offset,
    lines: &mpsc::Sender<Vec<u8>>,
) -> Result<Offset, ReadError> {
    let end = log.end(partition).await?;
    let mut reader = log.reader(partition, from.min(end))?;
    let mut next = from;
    while next < end {
        let batch = reader.next().await?;
        next = batch.next;
        // A batch may be megabytes; so small pieces, because they wait in the channel.
        for few in batch.records.chunks(64) {
            let few = few.iter().filter(|stored| stored.offset < end);
            if lines.send(few.flat_map(to_line).collect()).await.is_err() {
                return Ok(end);
            }
        }
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_record_comes_back_from_its_line(
            offset: u64,
            key: Option<Vec<u8>>,
            headers in prop::collection::vec((any::<Vec<u8>>(), any::<Vec<u8>>()), 0..5),
            value: Vec<u8>,
        ) {
            let pairs = headers.iter().map(|(name, value)| (&name[..], &value[..]));
            let record = Record {
                key: key.map(Bytes::from),
                headers: Headers::new(pairs),
                value: value.into(),
            };
            let time = Timestamp::from_micros(1_700_000_000_123_456).ok();
            let stored = Stored { offset, time, record };
            let line = to_line(&stored);
            prop_assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            prop_assert_eq!(from_line(&line), Ok(stored));
        }
    }
}
