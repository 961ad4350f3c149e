//! A load generator that is no bottleneck: one thread, HTTP/1.1 written by hand over kept connections, one request
//! at a time on each, nothing allocated between.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Writes the request with this number, complete, into the buffer. Numbers are unique within a run.
pub type MakeRequest = Arc<dyn Fn(u64, &mut Vec<u8>) + Send + Sync>;

/// How hard.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Connections, each with one request on its way.
    pub connections: usize,
    /// Measured time, after a fifth of it unmeasured.
    pub duration: Duration,
    /// The status of the refusals, when they are what is measured.
    pub refusals: Option<u16>,
}

/// What was measured.
#[derive(Debug, Clone)]
pub struct Measured {
    /// Answers with a status below 400 (or the refusals that are measured), per second.
    pub rate: f64,
    /// Half of the answers came faster.
    pub p50: Duration,
    /// 99 of 100 answers came faster.
    pub p99: Duration,
    /// 999 of 1,000 answers came faster.
    pub p999: Duration,
    /// All answers of the run, those before the measured time among them.
    pub answers: u64,
    /// The other answers.
    pub refused: u64,
    /// One of those, for people.
    pub example: Option<String>,
}

/// Asks as hard as the shape says, from a thread of its own.
///
/// # Errors
/// A connection fails, or an answer is no HTTP.
pub async fn run(address: &str, shape: Shape, make: MakeRequest) -> anyhow::Result<Measured> {
    let address = address.to_owned();
    tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(ask(&address, shape, make))
    })
    .await?
}

struct Connection {
    latencies: Vec<u32>,
    answers: u64,
    refused: u64,
    example: Option<String>,
}

async fn ask(address: &str, shape: Shape, make: MakeRequest) -> anyhow::Result<Measured> {
    let begin = Instant::now() + shape.duration / 5;
    let end = begin + shape.duration;
    let tasks = tokio::task::LocalSet::new();
    let mut connections = Vec::new();
    for connection in 0..shape.connections as u64 {
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("cannot reach {address}"))?;
        stream.set_nodelay(true)?;
        // Numbers of different connections never meet.
        connections.push(tasks.spawn_local(converse(
            stream,
            connection << 32,
            (begin, end),
            shape.refusals,
            Arc::clone(&make),
        )));
    }
    tasks.await;
    let mut latencies = Vec::new();
    let (mut answers, mut refused, mut example) = (0, 0, None);
    for connection in connections {
        let connection = connection.await??;
        latencies.extend(connection.latencies);
        answers += connection.answers;
        refused += connection.refused;
        example = example.or(connection.example);
    }
    Ok(Measured {
        answers,
        refused,
        example,
        ..Measured::of(latencies, shape.duration)
    })
}

impl Measured {
    /// From the latencies of all answers in this time, in microseconds.
    pub fn of(mut latencies: Vec<u32>, duration: Duration) -> Self {
        latencies.sort_unstable();
        let at = |part: f64| {
            let index = (latencies.len() as f64 * part) as usize;
            Duration::from_micros(latencies.get(index).copied().unwrap_or(0).into())
        };
        Self {
            rate: latencies.len() as f64 / duration.as_secs_f64(),
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            answers: latencies.len() as u64,
            refused: 0,
            example: None,
        }
    }
}

async fn converse(
    mut stream: TcpStream,
    mut number: u64,
    (begin, end): (Instant, Instant),
    refusals: Option<u16>,
    make: MakeRequest,
) -> anyhow::Result<Connection> {
    let refusals = refusals.map(|status| status.to_string());
    let mut outcome = Connection {
        latencies: Vec::with_capacity(1 << 16),
        answers: 0,
        refused: 0,
        example: None,
    };
    let (mut request, mut answer) = (Vec::new(), Vec::with_capacity(64 * 1024));
    loop {
        request.clear();
        make(number, &mut request);
        number += 1;
        let start = Instant::now();
        if start >= end {
            return Ok(outcome);
        }
        stream.write_all(&request).await?;
        answer.clear();
        let length = loop {
            anyhow::ensure!(
                stream.read_buf(&mut answer).await? > 0,
                "the server closed a connection"
            );
            if let Some(length) = complete(&answer)? {
                break length;
            }
        };
        anyhow::ensure!(length == answer.len(), "more than one answer came");
        let done = Instant::now();
        outcome.answers += 1;
        let as_expected = match &refusals {
            None => answer[9] < b'4',
            Some(status) => answer[9..].starts_with(status.as_bytes()),
        };
        if !as_expected {
            outcome.refused += 1;
            outcome
                .example
                .get_or_insert_with(|| String::from_utf8_lossy(&answer).into_owned());
        } else if start >= begin && done <= end {
            outcome
                .latencies
                .push(u32::try_from((done - start).as_micros()).unwrap_or(u32::MAX));
        }
    }
}

/// How long the answer is, once all of it is there.
fn complete(answer: &[u8]) -> anyhow::Result<Option<usize>> {
    let Some(head) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    anyhow::ensure!(answer.starts_with(b"HTTP/1.1 "), "no HTTP came back");
    for line in answer[..head].split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = head + 4 + std::str::from_utf8(value)?.parse::<usize>()?;
            return Ok((answer.len() >= length).then_some(length));
        }
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            return Ok(answer.ends_with(b"0\r\n\r\n").then_some(answer.len()));
        }
    }
    // 204 and 304 have neither.
    Ok(Some(head + 4))
}

/// A request with a JSON body, as clients write it.
pub fn post(path: &str, headers: &str, body: &[u8], into: &mut Vec<u8>) {
    use std::io::Write as _;
    let written = write!(
        into,
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{headers}\r\n",
        body.len()
    );
    debug_assert!(written.is_ok(), "a buffer takes everything");
    into.extend_from_slice(body);
}

/// A request without a body.
pub fn get(path: &str, headers: &str, into: &mut Vec<u8>) {
    into.extend_from_slice(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_complete_with_its_last_byte() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        for length in 0..text.len() {
            assert_eq!(complete(&text[..length]).unwrap(), None);
        }
        assert_eq!(complete(text).unwrap(), Some(text.len()));
        let bodiless = b"HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n";
        assert_eq!(complete(bodiless).unwrap(), Some(bodiless.len()));
    }
}
