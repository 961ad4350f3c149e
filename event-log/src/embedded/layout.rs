//! How a record lies in the store: key and value.
//!
//! Key: the offset, u64 big-endian. Value: layout version (1), i64 big-endian microseconds of the time of
//! appending, u32 big-endian length of the key plus one (0: no key) and the key, u32 length and the header block,
//! then the value.

use bytes::{Buf, Bytes};
use events::Timestamp;

use crate::{
    log::Stored,
    partition::Offset,
    record::{Headers, Record},
};

const VERSION: u8 = 1;

pub(super) fn key(offset: Offset) -> [u8; 8] {
    offset.to_be_bytes()
}

pub(super) fn offset_of_key(key: &[u8]) -> Option<Offset> {
    key.try_into().ok().map(Offset::from_be_bytes)
}

pub(super) fn encode(record: &Record, time: Timestamp) -> Vec<u8> {
    let mut out = Vec::with_capacity(record.size() + 17);
    let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes();
    out.push(VERSION);
    out.extend_from_slice(&time.micros().to_be_bytes());
    out.extend_from_slice(&length(record.key.as_ref().map_or(0, |key| key.len() + 1)));
    out.extend_from_slice(record.key.as_deref().unwrap_or_default());
    out.extend_from_slice(&length(record.headers.block().len()));
    out.extend_from_slice(record.headers.block());
    out.extend_from_slice(&record.value);
    out
}

/// Nothing when the bytes are not what [`encode`] makes: the store is damaged.
pub(super) fn decode(offset: Offset, bytes: &[u8]) -> Option<Stored> {
    let mut rest = Bytes::copy_from_slice(bytes);
    if rest.try_get_u8().ok()? != VERSION {
        return None;
    }
    let time = Timestamp::from_micros(rest.try_get_i64().ok()?).ok();
    let key = match rest.try_get_u32().ok()? {
        0 => None,
        length => Some(split(&mut rest, length as usize - 1)?),
    };
    let headers = rest.try_get_u32().ok()? as usize;
    let headers = Headers::from_block(split(&mut rest, headers)?);
    Some(Stored {
        offset,
        time,
        record: Record {
            key,
            headers,
            value: rest,
        },
    })
}

fn split(rest: &mut Bytes, length: usize) -> Option<Bytes> {
    (length <= rest.len()).then(|| rest.split_to(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_as_it_was() {
        let time = Timestamp::from_micros(1_700_000_000_000_000).expect("in range");
        for key in [None, Some(Bytes::new()), Some(Bytes::from_static(b"key"))] {
            let headers = Headers::new([(b"a".as_slice(), b"1".as_slice()), (b"b", b"")]);
            let record = Record {
                key,
                headers,
                value: Bytes::from_static(b"value"),
            };
            let stored = decode(7, &encode(&record, time)).expect("decodes");
            assert_eq!(
                stored,
                Stored {
                    offset: 7,
                    time: Some(time),
                    record
                }
            );
        }
    }

    #[test]
    fn bytes_that_are_cut_short_are_no_record() {
        let record = Record {
            key: Some(Bytes::from_static(b"key")),
            ..Record::default()
        };
        let bytes = encode(&record, Timestamp::from_micros(0).expect("in range"));
        for length in 0..bytes.len() {
            assert_eq!(decode(0, &bytes[..length]), None, "{length} bytes");
        }
    }
}
