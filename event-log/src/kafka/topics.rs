//! Making the topics, and refusing those that may lose what was acknowledged.

use std::{sync::Arc, time::Duration};

use rdkafka::{
    admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication},
    client::DefaultClientContext,
    metadata::Metadata,
    types::RDKafkaErrorCode,
};

use super::{TIMEOUT, blocking, settings};
use crate::{
    log::{DEFAULT_PARTITIONS, KafkaConfig, LogConfig, OpenError},
    partition::Topic,
};

type Admin = AdminClient<DefaultClientContext>;

/// How soon all brokers know a topic that was made.
const KNOWN: Duration = Duration::from_secs(30);

/// The name of a topic on the cluster.
pub(super) fn name(prefix: &str, topic: Topic) -> String {
    format!("{prefix}.{}", topic.short())
}

/// The name of the topic of hints.
pub(super) fn owners(prefix: &str) -> String {
    format!("{prefix}.owners")
}

/// Makes what is missing, waits until every partition has a leader, and checks the settings. Returns how many
/// partitions each topic has.
pub(super) async fn prepare(
    admin: &Arc<Admin>,
    kafka: &KafkaConfig,
    config: &LogConfig,
) -> Result<[u32; 3], OpenError> {
    let [directory, ledger, visits] = Topic::ALL.map(|topic| name(&kafka.prefix, topic));
    let names = [directory, ledger, visits, owners(&kafka.prefix)];
    let replication = kafka
        .replication
        .unwrap_or(if config.development { 1 } else { 3 });
    // Of all topics, because asking for one by name makes it on a broker that makes topics by itself.
    let mut counts = partitions(&metadata(admin).await?, &names);
    let asked = [
        1,
        config.ledger_partitions.unwrap_or(DEFAULT_PARTITIONS),
        config.visits_partitions.unwrap_or(DEFAULT_PARTITIONS),
        1,
    ];
    let missing: Vec<_> = (0..names.len())
        .filter(|topic| counts[*topic].is_none())
        .collect();
    if !missing.is_empty() {
        create(
            admin,
            missing.iter().map(|topic| {
                // The last one is no part of the log.
                let settings: Vec<_> = match *topic {
                    0..3 => settings::topic(replication).to_vec(),
                    _ => settings::owners(replication).to_vec(),
                };
                (names[*topic].as_str(), asked[*topic], settings)
            }),
            replication,
        )
        .await?;
        let deadline = tokio::time::Instant::now() + KNOWN;
        while counts.iter().any(Option::is_none) {
            if tokio::time::Instant::now() > deadline {
                let waits = (0..names.len())
                    .filter(|topic| counts[*topic].is_none())
                    .map(|topic| names[topic].clone());
                let waits = waits.collect::<Vec<_>>().join(", ");
                return Err(OpenError::Unavailable(format!(
                    "{waits}: no leader for some partition after {KNOWN:?}"
                )));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            counts = partitions(&metadata(admin).await?, &names);
        }
    }
    let [directory, ledger, visits, _] = &names;
    check(admin, [directory, ledger, visits], config.development).await?;
    let [directory, ledger, visits, _] = counts.map(Option::unwrap_or_default);
    Ok([directory, ledger, visits])
}

async fn metadata(admin: &Arc<Admin>) -> Result<Metadata, OpenError> {
    let admin = admin.clone();
    let fetched = blocking(move || admin.inner().fetch_metadata(None, TIMEOUT))
        .await
        .map_err(OpenError::Unavailable)?;
    fetched.map_err(|error| OpenError::Unavailable(format!("the Kafka cluster does not answer: {error}")))
}

/// The number of partitions of each topic, once each has a leader.
fn partitions(metadata: &Metadata, names: &[String; 4]) -> [Option<u32>; 4] {
    std::array::from_fn(|topic| {
        let found = metadata
            .topics()
            .iter()
            .find(|found| found.name() == names[topic])?;
        let led =
            found.error().is_none() && found.partitions().iter().all(|partition| partition.leader() >= 0);
        u32::try_from(found.partitions().len())
            .ok()
            .filter(|count| led && *count > 0)
    })
}

async fn create(
    admin: &Arc<Admin>,
    topics: impl Iterator<Item = (&str, u32, Vec<(&'static str, &'static str)>)>,
    replication: i32,
) -> Result<(), OpenError> {
    let topics: Vec<_> = topics
        .map(|(name, partitions, settings)| {
            let count = i32::try_from(partitions).unwrap_or(i32::MAX);
            let topic = NewTopic::new(name, count, TopicReplication::Fixed(replication));
            settings
                .iter()
                .fold(topic, |topic, (key, value)| topic.set(key, value))
        })
        .collect();
    let options = AdminOptions::new()
        .operation_timeout(Some(TIMEOUT))
        .request_timeout(Some(TIMEOUT));
    let made = admin.create_topics(&topics, &options).await;
    for made in made.map_err(|error| OpenError::Unavailable(format!("cannot make topics: {error}")))? {
        match made {
            // Another process was faster.
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, error)) => {
                return Err(OpenError::Unavailable(format!(
                    "cannot make the topic {name} with {replication} replicas: {error}"
                )));
            }
        }
    }
    Ok(())
}

/// Outside development, settings that may lose acknowledged records are refused; in development they are told.
async fn check(admin: &Arc<Admin>, names: [&String; 3], development: bool) -> Result<(), OpenError> {
    let described = described(admin, names).await?;
    let metadata = metadata(admin).await?;
    for (name, found) in names.iter().zip(described) {
        let replicas = metadata
            .topics()
            .iter()
            .filter(|topic| topic.name() == name.as_str())
            .flat_map(|topic| {
                topic
                    .partitions()
                    .iter()
                    .map(|partition| partition.replicas().len())
            })
            .min();
        let (useless, weak) = faults(&found, replicas.unwrap_or(0));
        if let Some(fault) = useless.first() {
            return Err(OpenError::Unsafe(format!(
                "the topic {name} cannot hold the log: {fault}"
            )));
        }
        let weak = weak.join(", ");
        if weak.is_empty() {
            continue;
        }
        if !development {
            return Err(OpenError::Unsafe(format!(
                "the topic {name} may lose acknowledged records, or when they came: {weak}; correct it, or set ANNALS_ENV=development where that is meant"
            )));
        }
        tracing::info!(
            topic = name,
            weak,
            "this topic may lose acknowledged records, or when they came; taken, in development"
        );
    }
    Ok(())
}

/// The settings of topics. A broker that has not heard yet of one that was just made tells none, and the client does not
/// tell its error.
async fn described(admin: &Arc<Admin>, names: [&String; 3]) -> Result<Vec<ConfigResource>, OpenError> {
    let asked: Vec<_> = names.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
    let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
    let deadline = tokio::time::Instant::now() + KNOWN;
    loop {
        let described = admin.describe_configs(&asked, &options).await;
        let described = described
            .map_err(|error| OpenError::Unavailable(format!("cannot read topic settings: {error}")))?;
        let mut found = Vec::new();
        for (name, described) in names.iter().zip(described) {
            let told = |error| OpenError::Unavailable(format!("settings of {name}: {error}"));
            found.push(described.map_err(told)?);
        }
        let unknown = names
            .iter()
            .zip(&found)
            .find(|(_, found)| found.entries.is_empty());
        let Some((name, _)) = unknown else {
            return Ok(found);
        };
        if tokio::time::Instant::now() > deadline {
            return Err(OpenError::Unavailable(format!(
                "{name}: no settings are told after {KNOWN:?}"
            )));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What makes a topic useless anywhere, and what makes it weak.
fn faults(found: &ConfigResource, replicas: usize) -> (Vec<String>, Vec<String>) {
    let value = |name: &str| {
        found
            .get(name)
            .and_then(|entry| entry.value.clone())
            .unwrap_or_default()
    };
    let number = |name: &str| value(name).parse::<i64>().unwrap_or(0);
    let (mut useless, mut weak) = (Vec::new(), Vec::new());
    if value("cleanup.policy") != "delete" {
        useless.push(format!(
            "cleanup.policy is {:?}, expected \"delete\" (compaction removes history)",
            value("cleanup.policy")
        ));
    }
    if number("max.message.bytes") < settings::MAX_RECORD_BYTES.parse().unwrap_or(i64::MAX) {
        useless.push(format!(
            "max.message.bytes is {}, expected at least {}",
            number("max.message.bytes"),
            settings::MAX_RECORD_BYTES
        ));
    }
    if value("message.timestamp.type") != "LogAppendTime" {
        weak.push(format!(
            "message.timestamp.type is {}, expected LogAppendTime (else the clocks of writers say when the log took a record)",
            value("message.timestamp.type")
        ));
    }
    for name in ["retention.ms", "retention.bytes"] {
        if number(name) != -1 {
            weak.push(format!("{name} is {}, expected -1", number(name)));
        }
    }
    if replicas < 3 {
        weak.push(format!("a partition has {replicas} replicas, expected 3"));
    }
    if number("min.insync.replicas") < 2 {
        weak.push(format!(
            "min.insync.replicas is {}, expected 2",
            number("min.insync.replicas")
        ));
    }
    if value("unclean.leader.election.enable") != "false" {
        weak.push("unclean.leader.election.enable is not false".to_owned());
    }
    (useless, weak)
}
