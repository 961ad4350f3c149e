//! Lines of a log, a batch at a time, read ahead on a thread of their own while the last batch is on its way.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv6Addr},
    path::Path,
};

use events::directory::Domain;
use serde::Serialize;
use tokio::{sync::mpsc, task::JoinHandle};
use url::Url;
use uuid::Uuid;

use super::{
    line::Line,
    page::{self, Skip},
    source::Lines,
};

/// As many events and bytes as the API takes in one request, with room for one long line more.
const MOST_EVENTS: usize = 1_000;
const MOST_BYTES: usize = 900_000;
/// A batch ends after so many lines even when few of them are page views, so that progress shows.
const MOST_LINES: u64 = 20_000;

/// Lines that follow each other, and what of them is sent.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) lines: u64,
    pub(super) events: Vec<PageView>,
    pub(super) skipped: BTreeMap<Skip, u64>,
    /// Line numbers from 0, with the reason.
    pub(super) unreadable: Vec<(u64, String)>,
}

/// A page view as the batch form of the API takes it.
#[derive(Debug, Serialize)]
pub(super) struct PageView {
    /// Made of the import and the line, so that a repetition has the same.
    id: Uuid,
    name: &'static str,
    url: String,
    domain: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    referrer: Option<String>,
    timestamp: String,
    /// Left out when the log does not tell: then the API derives nothing from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<String>,
    ip: IpAddr,
    import: String,
    pub(super) line: u64,
}

/// The batches of a file, in their order.
pub(super) struct Batches {
    read: mpsc::Receiver<io::Result<Batch>>,
    reading: JoinHandle<()>,
}

impl Batches {
    /// Begins to read at this line, from 0.
    pub(super) fn read(
        place: &Path,
        site: &str,
        own_hosts: &[String],
        import: &str,
        first: u64,
    ) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel(2);
        let mut reader = Reader {
            lines: Lines::from(place, first)?,
            site: site.to_owned(),
            own_hosts: own_hosts
                .iter()
                .map(|host| plain(&Domain::normal(host)).to_owned())
                .collect(),
            import: import.to_owned(),
            namespace: Uuid::new_v5(&Uuid::NAMESPACE_OID, import.as_bytes()),
        };
        let reading = tokio::task::spawn_blocking(move || {
            while let Some(batch) = reader.batch().transpose() {
                let failed = batch.is_err();
                if sender.blocking_send(batch).is_err() || failed {
                    return;
                }
            }
        });
        Ok(Self {
            read: receiver,
            reading,
        })
    }

    /// The next batch; none at the end of the file.
    pub(super) async fn next(&mut self) -> Option<io::Result<Batch>> {
        if let Some(batch) = self.read.recv().await {
            return Some(batch);
        }
        // A reader that panicked has not come to the end.
        let ended = (&mut self.reading).await;
        ended.err().map(|error| Err(io::Error::other(error)))
    }
}

struct Reader {
    lines: Lines,
    site: String,
    /// Hosts of the site beside its domain, without `www.`.
    own_hosts: Vec<String>,
    import: String,
    namespace: Uuid,
}

impl Reader {
    /// The next lines; none at the end of the file.
    fn batch(&mut self) -> io::Result<Option<Batch>> {
        let mut batch = Batch::default();
        let mut bytes = 0;
        while batch.events.len() < MOST_EVENTS && bytes < MOST_BYTES && batch.lines < MOST_LINES {
            let Some((number, text)) = self.lines.next()? else {
                break;
            };
            batch.lines += 1;
            if text.trim().is_empty() {
                continue;
            }
            match Line::parse(&text).map(|line| page::judge(&line).map(|()| self.page_view(number, &line))) {
                Ok(Ok(view)) => {
                    bytes += size(&view);
                    batch.events.push(view);
                }
                Ok(Err(skip)) => *batch.skipped.entry(skip).or_default() += 1,
                Err(error) => batch.unreadable.push((number, error.to_string())),
            }
        }
        Ok((batch.lines > 0).then_some(batch))
    }

    fn page_view(&self, number: u64, line: &Line<'_>) -> PageView {
        let target = &*line.target;
        let url = if target.starts_with("http://") || target.starts_with("https://") {
            target.to_owned()
        } else {
            let slash = if target.starts_with('/') { "" } else { "/" };
            format!("https://{}{slash}{target}", self.site)
        };
        PageView {
            id: Uuid::new_v5(&self.namespace, number.to_string().as_bytes()),
            name: "pageview",
            url,
            domain: self.site.clone(),
            referrer: line
                .referrer
                .as_deref()
                .filter(|referrer| !self.is_own(referrer))
                .map(str::to_owned),
            timestamp: line.time.to_rfc3339(),
            // An empty one is told as it is: nobody's browser sends none, so it counts as a bot.
            user_agent: line.user_agent.as_deref().map(str::to_owned),
            ip: address(line.host),
            import: self.import.clone(),
            line: number,
        }
    }

    /// Whether a referrer is a page of the site itself. (Those of its domain the API knows.)
    fn is_own(&self, referrer: &str) -> bool {
        let host = Url::parse(referrer).ok();
        let host = host.as_ref().and_then(Url::host_str).map(plain);
        host.is_some_and(|host| self.own_hosts.iter().any(|own| own == host))
    }
}

/// A host as the API compares them.
fn plain(host: &str) -> &str {
    host.strip_prefix("www.").unwrap_or(host)
}

/// The visitor's address. A server that looks up names logs those: each gets an address of its own, from the range
/// that is never routed (RFC 4193), for it only has to tell visitors apart.
fn address(host: &str) -> IpAddr {
    host.parse().unwrap_or_else(|_| {
        let name = Uuid::new_v5(&Uuid::NAMESPACE_DNS, host.as_bytes());
        let mut octets = *name.as_bytes();
        octets[0] = 0xfd;
        Ipv6Addr::from(octets).into()
    })
}

/// At most how many bytes the event takes, as far as batches are concerned: an escape makes two bytes of one, of a
/// control character six.
fn size(view: &PageView) -> usize {
    let escaped = |text: &str| text.bytes().map(|b| if b < b' ' { 6 } else { 2 }).sum::<usize>();
    let texts = [
        view.url.as_str(),
        view.user_agent.as_deref().unwrap_or_default(),
        view.referrer.as_deref().unwrap_or_default(),
    ];
    400 + view.domain.len() + texts.into_iter().map(escaped).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches(first: u64) -> Vec<Batch> {
        batches_of(first, &[])
    }

    fn batches_of(first: u64, own_hosts: &[&str]) -> Vec<Batch> {
        let mut reader = Reader {
            own_hosts: own_hosts.iter().map(|host| (*host).to_owned()).collect(),
            lines: Lines::from(super::super::sample(), first).unwrap(),
            site: "semicomplete.com".to_owned(),
            import: "i".to_owned(),
            namespace: Uuid::nil(),
        };
        std::iter::from_fn(|| reader.batch().unwrap()).collect()
    }

    #[tokio::test]
    async fn a_reader_that_panics_has_not_come_to_the_end() {
        let (sender, read) = mpsc::channel(1);
        let reading = tokio::task::spawn_blocking(move || {
            drop(sender);
            panic!("a line that nobody thought of");
        });
        let end = Batches { read, reading }.next().await;
        assert!(
            end.is_some_and(|end| end.is_err()),
            "the import would be complete"
        );
    }

    #[test]
    fn every_line_of_the_sample_is_sent_skipped_or_named() {
        let batches = batches(0);
        let sent: usize = batches.iter().map(|batch| batch.events.len()).sum();
        let skipped: u64 = batches.iter().flat_map(|batch| batch.skipped.values()).sum();
        assert_eq!(batches.iter().map(|batch| batch.lines).sum::<u64>(), 10_000);
        assert_eq!(sent as u64 + skipped, 10_000);
        assert!(batches.iter().all(|batch| batch.unreadable.is_empty()));
        assert!(
            batches
                .iter()
                .all(|batch| serde_json::to_vec(&batch.events).unwrap().len() < 1 << 20)
        );
        let lines: Vec<_> = batches
            .iter()
            .flat_map(|batch| batch.events.iter().map(|event| event.line))
            .collect();
        assert!(lines.is_sorted());
    }

    #[test]
    fn pages_of_the_site_itself_are_no_referrers() {
        let of = |batches: Vec<Batch>| -> (usize, usize) {
            let events = batches.into_iter().flat_map(|batch| batch.events);
            let referrers: Vec<String> = events.filter_map(|event| event.referrer).collect();
            let host = |it: &String| it.split('/').nth(2).map(|host| plain(host).to_owned());
            let own = referrers
                .iter()
                .filter(|it| host(it).as_deref() == Some("semicomplete.com"));
            (own.count(), referrers.len())
        };
        let (own, all) = of(batches(0));
        assert!(own > 100, "{own}");
        assert_eq!(of(batches_of(0, &["semicomplete.com"])), (0, all - own));
    }

    #[test]
    fn a_host_is_an_address_or_gets_one() {
        assert_eq!(address("203.0.113.7").to_string(), "203.0.113.7");
        let named = address("dsl-7.example.net");
        assert!(named.to_string().starts_with("fd"));
        assert_eq!(named, address("dsl-7.example.net"));
        assert_ne!(named, address("dsl-8.example.net"));
    }

    #[test]
    fn a_resumed_import_sends_the_rest_with_the_same_ids() {
        let ids = |batches: Vec<Batch>| -> Vec<_> {
            batches
                .into_iter()
                .flat_map(|batch| batch.events)
                .map(|event| (event.line, event.id))
                .collect()
        };
        let (all, rest) = (ids(batches(0)), ids(batches(7_000)));
        let expected: Vec<_> = all.into_iter().filter(|(line, _)| *line >= 7_000).collect();
        assert_eq!(rest, expected);
    }
}
