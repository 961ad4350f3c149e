//! The file of an access log: plain or gzip, its fingerprint, and its lines with their numbers.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};

/// A line longer than this is not of a log; the rest of it is passed over.
const LONGEST_LINE: u64 = 64 * 1024;

/// What makes a file the same file: hashed after unpacking, so that a log and its gzip are one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    /// SHA-256 of the unpacked content, in hex.
    pub(crate) hash: String,
    pub(crate) lines: u64,
}

/// Opens a log; what begins with gzip's magic bytes is unpacked while it is read.
pub(crate) fn open(place: &Path) -> io::Result<Box<dyn BufRead + Send>> {
    let mut file = BufReader::with_capacity(256 * 1024, File::open(place)?);
    if file.fill_buf()?.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(BufReader::with_capacity(
            256 * 1024,
            MultiGzDecoder::new(file),
        )));
    }
    Ok(Box::new(file))
}

/// Reads the whole file once.
pub(crate) fn fingerprint(place: &Path) -> io::Result<Fingerprint> {
    let mut file = open(place)?;
    let mut digest = Sha256::new();
    let mut lines = 0;
    let mut last = b'\n';
    loop {
        let chunk = file.fill_buf()?;
        let Some(&end) = chunk.last() else { break };
        last = end;
        digest.update(chunk);
        lines += chunk.iter().filter(|byte| **byte == b'\n').count() as u64;
        let length = chunk.len();
        file.consume(length);
    }
    if last != b'\n' {
        lines += 1;
    }
    Ok(Fingerprint {
        hash: hex::encode(digest.finalize()),
        lines,
    })
}

/// The lines of a log, from 0, as text; bytes that are not UTF-8 become replacement characters.
pub(crate) struct Lines {
    file: Box<dyn BufRead + Send>,
    buffer: Vec<u8>,
    next: u64,
}

impl Lines {
    /// From this line on.
    pub(crate) fn from(place: &Path, first: u64) -> io::Result<Self> {
        let mut lines = Self {
            file: open(place)?,
            buffer: Vec::new(),
            next: 0,
        };
        while lines.next < first && lines.advance()? {}
        Ok(lines)
    }

    /// The next line's number and text.
    pub(crate) fn next(&mut self) -> io::Result<Option<(u64, String)>> {
        if !self.advance()? {
            return Ok(None);
        }
        Ok(Some((
            self.next - 1,
            String::from_utf8_lossy(&self.buffer).into_owned(),
        )))
    }

    /// Reads a line into the buffer; false at the end.
    fn advance(&mut self) -> io::Result<bool> {
        self.buffer.clear();
        if Read::take(&mut self.file, LONGEST_LINE).read_until(b'\n', &mut self.buffer)? == 0 {
            return Ok(false);
        }
        if !self.buffer.ends_with(b"\n") && self.buffer.len() as u64 == LONGEST_LINE {
            self.file.skip_until(b'\n')?;
        }
        self.next += 1;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn numbered(place: &Path, first: u64) -> Vec<(u64, String)> {
        let mut lines = Lines::from(place, first).unwrap();
        std::iter::from_fn(|| lines.next().unwrap()).collect()
    }

    #[test]
    fn a_log_and_its_gzip_are_one_source() {
        let folder = tempfile::tempdir().unwrap();
        let (plain, packed) = (folder.path().join("a.log"), folder.path().join("a.log.gz"));
        let text = b"one\ntwo \xff\r\n\nlast";
        std::fs::write(&plain, text).unwrap();
        let mut encoder =
            flate2::write::GzEncoder::new(File::create(&packed).unwrap(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap();
        let fingerprint = fingerprint(&plain).unwrap();
        assert_eq!(fingerprint, super::fingerprint(&packed).unwrap());
        assert_eq!(fingerprint.lines, 4);
        assert_eq!(numbered(&plain, 0), numbered(&packed, 0));
        assert_eq!(
            numbered(&plain, 2),
            [(2, "\n".to_owned()), (3, "last".to_owned())]
        );
        assert_eq!(numbered(&plain, 9), []);
    }

    #[test]
    fn a_line_without_an_end_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("a.log");
        std::fs::write(&place, format!("{}\nb\n", "a".repeat(200_000))).unwrap();
        let lines = numbered(&place, 0);
        assert_eq!(
            (lines.len(), lines[0].1.len(), lines[1].1.as_str()),
            (2, 65_536, "b\n")
        );
    }
}
