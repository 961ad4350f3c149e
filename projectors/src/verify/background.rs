//! Verification that nobody asks for: now and then a slice of a projection that answers is compared with the log.
//!
//! What it may cost is bounded: so many events of the log and rows of the tables a second, one slice at a time in a
//! process, small memory, and no snapshot of PostgreSQL while the log is read. How far each projection is, and what was
//! found, stands in `annals.verified`; processes take turns there. An outage is no difference: the slice is compared again.

use std::{collections::HashMap, time::Duration};

use event_log::Log;
use read_models::{Projection, Writer, clickhouse, generation::Known, standing::Slice};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{Difference, Error, MOST_SLICES, Progress, Short, Told, Verifier, look::Findings};
use crate::{
    metrics,
    runner::{Throttle, feed::chain},
};

/// What the expected rows of a slice may take, in bytes.
const BUDGET: usize = 32 << 20;

/// How often it is looked whether something is due, at least.
const NAP: Duration = Duration::from_millis(500);

/// Differences of a slice that are named; the others are counted.
const NAMED: usize = 10;

/// Compares slices until the shutdown.
pub struct Background {
    verifier: Verifier,
    control: Writer,
    /// Which fold of this release makes each projection: tables of another release are not judged.
    hashes: HashMap<Projection, String>,
    throttle: Throttle,
    every: Duration,
    /// When each was last tried here, whatever came of it.
    tried: HashMap<Projection, Instant>,
    budget: usize,
    announced: bool,
}

/// What came of a slice.
enum Sliced {
    /// It was compared.
    Compared {
        rows: u64,
        differing: u64,
        named: Vec<Difference>,
    },
    /// It takes too much memory.
    Full,
    /// What is parked has changed meanwhile: it says nothing.
    Changed,
}

impl Background {
    /// That reads at most `rate` records of the log a second, and compares a slice of each projection at most once
    /// in `every`.
    pub fn new(
        (log, control, rows): (Log, Writer, clickhouse::Writer),
        hashes: HashMap<Projection, String>,
        rate: u32,
        every: Duration,
    ) -> Self {
        let throttle = Throttle::default();
        throttle.bound(rate);
        Self {
            verifier: Verifier::new(log, control.clone(), rows).within(BUDGET),
            control,
            hashes,
            throttle,
            every,
            tried: HashMap::new(),
            budget: BUDGET,
            announced: false,
        }
    }

    /// With so many bytes for the rows of a slice.
    #[must_use]
    pub fn within(mut self, bytes: usize) -> Self {
        self.verifier = self.verifier.within(bytes);
        self.budget = bytes;
        self
    }

    /// Works until the shutdown.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let work = async {
            loop {
                match self.next().await {
                    Ok(true) => {
                        self.announced = false;
                        continue;
                    }
                    Ok(false) => {}
                    Err(error) => self.failed(&error),
                }
                tokio::time::sleep(NAP.min(self.every)).await;
            }
        };
        let _: Option<()> = shutdown.run_until_cancelled(work).await;
    }

    fn failed(&mut self, error: &Error) {
        if !std::mem::replace(&mut self.announced, true) {
            tracing::warn!(
                error = chain(error),
                "verification in the background has come to no result: trying again"
            );
        }
    }

    /// Compares the slice that is due for the longest time; false when none is.
    async fn next(&mut self) -> Result<bool, Error> {
        let known = self.control.generations(None).await?;
        let mut due: Vec<(Projection, &Known)> = known
            .iter()
            .filter_map(|row| Some((row.projection.parse().ok()?, row)))
            .filter(|(projection, row)| self.is_due(*projection, row))
            .collect();
        due.sort_by_key(|(projection, row)| (row.looked_at, self.tried.get(projection).copied()));
        for (projection, row) in due {
            self.tried.insert(projection, Instant::now());
            let Some(taken) = self.control.take_slice(projection, row.generation).await? else {
                continue;
            };
            let slice = taken.slice();
            match self.compare(projection, row.generation, slice).await? {
                Sliced::Compared {
                    rows,
                    differing,
                    named,
                } => {
                    taken.compared(rows, differing).await?;
                    metrics::VERIFIED
                        .with_label_values(&[projection.name()])
                        .inc_by(rows);
                    tell(projection, row.generation, differing, &named);
                }
                Sliced::Full if slice.of >= MOST_SLICES => return Err(Error::TooLarge(self.budget)),
                Sliced::Full => {
                    taken.halved().await?;
                    self.tried.remove(&projection);
                }
                Sliced::Changed => {}
            }
            return Ok(true);
        }
        Ok(false)
    }

    fn is_due(&self, projection: Projection, row: &Known) -> bool {
        let ours = row.state == "live" && self.hashes.get(&projection) == Some(&row.fold_hash);
        let waited = |since: Option<Duration>| since.is_none_or(|since| since >= self.every);
        let looked = row
            .looked_at
            .map(|at| chrono::Utc::now().signed_duration_since(at));
        ours && waited(looked.map(|since| since.to_std().unwrap_or_default()))
            && waited(self.tried.get(&projection).map(Instant::elapsed))
    }

    async fn compare(&self, projection: Projection, generation: i32, slice: Slice) -> Result<Sliced, Error> {
        let (tell, mut told) = mpsc::channel(1);
        let listen = async {
            let mut named = Vec::new();
            while let Some(line) = told.recv().await {
                if let Told::Difference(difference) = line
                    && named.len() < NAMED
                {
                    named.push(*difference);
                }
            }
            named
        };
        let compare = self.slowly(projection, generation, slice, tell);
        let (compared, named) = tokio::join!(compare, listen);
        match compared {
            Ok((rows, differing)) => Ok(Sliced::Compared {
                rows,
                differing,
                named,
            }),
            Err(Short::Full) => Ok(Sliced::Full),
            Err(Short::Changed) => Ok(Sliced::Changed),
            Err(Short::Failed(error)) => Err(error),
        }
    }

    /// Rows compared, and how many of them differ.
    async fn slowly(
        &self,
        projection: Projection,
        generation: i32,
        slice: Slice,
        tell: mpsc::Sender<Told>,
    ) -> Result<(u64, u64), Short> {
        let mut standing = self.control.standing(projection, Some(generation)).await?;
        standing.rest().await?;
        let mut findings = Findings::new(tell.clone());
        let records = self.verifier.records(&standing).await?;
        let progress = Progress::new(projection, records, tell, self.throttle.clone());
        self.verifier
            .slice(&mut standing, slice, &mut findings, &progress)
            .await?;
        // In ClickHouse rows were not those of one moment: what was parked or tried again in between explains them.
        if findings.differences > 0 && !standing.renew().await? {
            return Err(Short::Changed);
        }
        findings.counts().await?;
        standing.end().await?;
        Ok((findings.rows, findings.differences))
    }
}

/// Says which rows are not what the log says, and what each side says.
fn tell(projection: Projection, generation: i32, differing: u64, named: &[Difference]) {
    let json = |row: &Option<_>| row.as_ref().and_then(|row| serde_json::to_string(row).ok());
    for it in named {
        tracing::error!(
            %projection, generation, tenant = it.tenant, table = it.table, row = it.row, what = ?it.what,
            log = json(&it.log), store = json(&it.store), reason = it.reason,
            "a row is not what the log says"
        );
    }
    if differing > named.len() as u64 {
        tracing::error!(
            %projection, generation, differing,
            "more rows are not what the log says: `annals verify {projection}` names them"
        );
    }
}
