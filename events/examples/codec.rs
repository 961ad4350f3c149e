//! How quickly events are written and read: `cargo run --release -p events --example codec`.
//!
//! Read twice: as we write them, which takes the one-pass reader, and with `data` before `type`, which takes
//! the thorough one. The first should be about twice as quick.

#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::time::Instant;

use events::envelope;

const EVENTS: usize = 500;
const ROUNDS: usize = 400;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let example = std::fs::read(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../schemas/visit.page-viewed.v1.example.json"
    ))?;
    let event = envelope::decode(&[b"[".as_slice(), &example, b"]"].concat())?.remove(0);
    let batch = vec![event; EVENTS];
    let written = envelope::encode(&batch);
    println!("{} bytes an event", written.len() / EVENTS);
    rate("written", || envelope::encode(&batch).len());

    rate("read in one pass", || {
        envelope::decode(&written).map_or(0, |events| events.len())
    });
    let mut reordered: Vec<serde_json::Map<String, serde_json::Value>> = serde_json::from_slice(&written)?;
    for event in &mut reordered {
        event.sort_keys();
    }
    let reordered = serde_json::to_vec(&reordered)?;
    rate("read thoroughly", || {
        envelope::decode(&reordered).map_or(0, |events| events.len())
    });
    Ok(())
}

fn rate(what: &str, mut work: impl FnMut() -> usize) {
    let start = Instant::now();
    for _ in 0..ROUNDS {
        std::hint::black_box(work());
    }
    let each = start.elapsed().as_secs_f64() / (ROUNDS * EVENTS) as f64;
    println!("{what}: {:.0} events/s, {:.2} µs each", 1.0 / each, each * 1e6);
}
