//! Every Kafka setting that we choose, each with its reason. What is not here is the library's default.

use std::time::Duration;

use events::feature;
use rdkafka::ClientConfig;

/// The largest record that a topic takes: a commit of 4 MiB and its headers, with room to spare.
pub(super) const MAX_RECORD_BYTES: &str = "8388608";

/// What every client has.
fn client(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("client.id", "annals")
        // A record is sent when it is there, not when a packet is full.
        .set("socket.nagle.disable", "true")
        // After a broker's restart be there soon; the default waits up to 10 s.
        .set("reconnect.backoff.ms", "20")
        .set("reconnect.backoff.max.ms", "200")
        // Topics are made by us, with settings that keep what is acknowledged.
        .set("allow.auto.create.topics", "false");
    config
}

/// For topics and ends. A client of its own, because a broker answers a connection's requests in order: an end
/// asked for on the producer's connection would wait for the appends before it.
pub(super) fn admin(brokers: &str) -> ClientConfig {
    let mut config = client(brokers);
    // The end is where the next record will stand, also while a stranger's transaction is open. (The library says that
    // it ignores this here; it does not, and its own choice is the end of what is committed.)
    config.set("isolation.level", "read_uncommitted");
    config
}

fn producer(brokers: &str) -> ClientConfig {
    let mut config = client(brokers);
    config
        // Every in-sync replica has it before it is acknowledged.
        .set("acks", "all")
        // Also makes batches under load, since what waits is sent together.
        .set("max.in.flight.requests.per.connection", "5")
        // Any linger becomes the latency of a lonely command.
        .set("linger.ms", "0")
        // As the topics.
        .set("message.max.bytes", MAX_RECORD_BYTES)
        // Long enough for a new leader, short enough for a person: after it the outcome is unknown and the log is asked.
        .set("message.timeout.ms", "15000")
        .set("request.timeout.ms", "10000")
        // Above what the gates of all partitions let in, so that the gates push back, partition by partition.
        .set("queue.buffering.max.messages", "1000000")
        .set("queue.buffering.max.kbytes", "1048576");
    config
}

/// For the directory and the ledger. No compression: commits are small, and latency counts.
pub(super) fn fenced_producer(brokers: &str) -> ClientConfig {
    let mut config = producer(brokers);
    config
        // The ledger brings its own numbers: a record that is there twice, or in another order, is void for every
        // reader, and the writer sees it. The broker's numbers would add nothing but their price: the library then
        // allows five *messages* of a partition under way, so while a batch is, its thread polls without sleeping
        // (half of a core at 64 clients).
        .set("enable.idempotence", "false");
    config
}

/// For visits: many and alike, so that lz4 shortens them well.
pub(super) fn visits_producer(brokers: &str) -> ClientConfig {
    let mut config = producer(brokers);
    config
        // Nobody numbers visits: the broker drops what it has already, so that a retry inside the client is no
        // second record.
        .set("enable.idempotence", "true")
        // One oversized record would make the whole producer fatal.
        .set("enable.gapless.guarantee", "false")
        .set("compression.type", "lz4");
    config
}

/// For a reader of one partition.
pub(super) fn reader(brokers: &str) -> ClientConfig {
    let mut config = client(brokers);
    config
        // Partitions are assigned by hand and offsets kept elsewhere; the library only wants a name.
        .set("group.id", "annals-readers")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // An offset that is not there is an error, never a silent jump.
        .set("auto.offset.reset", "error")
        // Whatever stands there is read; admission decides what counts.
        .set("isolation.level", "read_uncommitted")
        // Noticed here, a damaged batch is named; noticed later, it is a void record.
        .set("check.crcs", "true")
        // What a reader may hold that nobody has asked for yet (default 64 MiB); a process has dozens of readers.
        .set("queued.max.messages.kbytes", "8192")
        // When that is full, look again soon; the default is a second.
        .set("fetch.queue.backoff.ms", "10")
        .set("fetch.message.max.bytes", "1048576");
    config
}

/// What a member of a group is called, so that whoever asks the brokers for the members learns what each can read.
pub(super) fn name_at(level: u16) -> String {
    format!("annals-level-{level}")
}

/// The feature level that a member's name tells. One that tells none is of a release before there were levels.
pub(super) fn level_of(name: &str) -> u16 {
    name.strip_prefix("annals-level-")
        .and_then(|level| level.parse().ok())
        .unwrap_or(0)
}

/// For the member of a group: of the one that shares out the partitions, or of the one that shows who reads. It
/// fetches nothing.
pub(super) fn member(brokers: &str, group: &str, session: Duration) -> ClientConfig {
    let mut config = client(brokers);
    let millis = |time: Duration| time.as_millis().to_string();
    config
        .set("client.id", name_at(feature::KNOWN))
        .set("group.id", group)
        // Whoever is gone without a word has its partitions this long; brokers allow no less than 6 s as they come.
        .set("session.timeout.ms", millis(session))
        // Also how soon a member hears that another one came or left: an orderly handover takes about this long.
        .set(
            "heartbeat.interval.ms",
            millis((session / 3).min(Duration::from_millis(300))),
        )
        // A rebalance waits so long for a member that does not answer; polling is all that ours do.
        .set("max.poll.interval.ms", millis(session * 2))
        // Only what changes hands is revoked, and as little as possible changes hands. The group protocol of
        // KIP-848 would do the same, but its session time is the brokers' (45 s, and no less without their leave).
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // Nothing is read: the one that costs least.
        .set("auto.offset.reset", "latest")
        .set("queued.max.messages.kbytes", "1");
    config
}

/// Settings of the topic of hints. Losing it costs a moment, never a record: owners say again who they are.
pub(super) fn owners(replication: i32) -> [(&'static str, &'static str); 4] {
    [
        // The last hint of each partition is enough.
        ("cleanup.policy", "compact"),
        // Some records of some hundred bytes: what every process reads at its start stays short.
        ("segment.bytes", "1048576"),
        ("min.cleanable.dirty.ratio", "0.1"),
        ("min.insync.replicas", if replication >= 3 { "2" } else { "1" }),
    ]
}

/// Settings of the topics that we make, and what validation asks of those that are there.
pub(super) fn topic(replication: i32) -> [(&'static str, &'static str); 7] {
    [
        // The log is for ever.
        ("cleanup.policy", "delete"),
        ("retention.ms", "-1"),
        ("retention.bytes", "-1"),
        ("max.message.bytes", MAX_RECORD_BYTES),
        // An acknowledged record is on two brokers.
        ("min.insync.replicas", if replication >= 3 { "2" } else { "1" }),
        // A replica that missed acknowledged records never leads.
        ("unclean.leader.election.enable", "false"),
        // One clock per partition, the broker's: lag in seconds needs no agreement of writers.
        ("message.timestamp.type", "LogAppendTime"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_members_name_tells_its_level() {
        assert_eq!(level_of(&name_at(7)), 7);
        assert_eq!(level_of("annals"), 0);
        assert_eq!(level_of("annals-level-many"), 0);
    }
}
