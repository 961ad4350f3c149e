#!/usr/bin/env python3
"""Derives the history of a log from what `annals log export` wrote, or from Kafka, by schemas/LEDGER.md alone.

    python3 schemas/history.py FOLDER            what each partition holds, as a JSON line
    python3 schemas/history.py FOLDER --commits  and before that each event of each admitted commit, and of visits
    python3 schemas/history.py --kafka HOST:PORT [--prefix annals]
                                                 the same, up to where the topics end now

Shares no code with Annals; the rules are those of ledger-vectors/check.py. It needs the standard library only,
and for Kafka the package confluent-kafka.
It ends with 1 when this is no whole log, or with "wrong" offsets: records that no writer leaves behind where they stand.
"""

import argparse
import collections
import functools
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent / "ledger-vectors"))
from check import Damage, Fenced, Visits, Void, octets  # noqa: E402

TOPICS = ["annals.directory", "annals.ledger", "annals.visits"]
# What is shown of an event.
EVENT = ["type", "subject", "time", "tenant", "aggregateversion", "data"]


def lines(path):
    """The records of a partition that was exported. A last line without an end was not written whole."""
    with path.open(encoding="utf-8") as text:
        for line in text:
            if line.endswith("\n"):
                record = json.loads(line)
                headers = [(octets(name), octets(value)) for name, value in record["headers"]]
                yield record["offset"], headers, octets(record["value"])


def messages(settings, topic, index):
    """The records of a partition of a topic, up to where it ends now."""
    from confluent_kafka import Consumer, KafkaError, TopicPartition

    consumer = Consumer(settings)
    place, end = consumer.get_watermark_offsets(TopicPartition(topic, index), timeout=30)
    consumer.assign([TopicPartition(topic, index, place)])
    while place < end:
        for message in consumer.consume(10_000, timeout=1):
            if message.error() and message.error().code() != KafkaError._PARTITION_EOF:
                sys.exit(f"{topic}/{index}: {message.error()}")
            place = end if message.error() else message.offset() + 1
            if not message.error() and place <= end:
                headers = [(name.encode(), value or b"") for name, value in message.headers() or []]
                yield message.offset(), headers, message.value() or b""


def exported(folder):
    """The partitions of an export: a name, and what gives its records."""
    for path in folder.glob("*.ndjson"):
        yield path, functools.partial(lines, path)


def on_kafka(servers, prefix):
    """The partitions of a log on Kafka, likewise."""
    from confluent_kafka import Consumer

    settings = {
        "bootstrap.servers": servers,
        "group.id": "history.py",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "error",
        "isolation.level": "read_uncommitted",
    }
    known = Consumer(settings).list_topics(timeout=30).topics
    for topic in (prefix + name.removeprefix("annals") for name in TOPICS):
        for index in known[topic].partitions if topic in known else []:
            yield f"{topic}/{index}", functools.partial(messages, settings, topic, index)


def genesis(name, records):
    """Section 5: what the first record says."""
    offset, headers, value = next(records(), (None, None, b""))
    try:
        if offset != 0:
            raise Void("it is not there")
        Fenced().admit(offset, headers, value)
    except Void as why:
        sys.exit(f"{name}: the first record is no genesis: {why}")
    first = json.loads(value)
    if first["topic"] not in TOPICS:
        sys.exit(f"{name}: it is of {first['topic']}, which is no topic of a log")
    return first


def complete(found):
    """Whether all partitions of each topic are there, and all of one log; says what is missing."""
    if len({first["log"] for _, first in found.values()}) != 1:
        sys.exit("these are partitions of several logs")
    for _, first in found.values():
        for index in range(first["partitions"]):
            if (TOPICS.index(first["topic"]), index) not in found:
                sys.exit(f"{first['topic'].removeprefix('annals.')}/{index} is missing")


def events_of(value):
    """Section 2: the events of a commit, at least one, all of one tenant."""
    events = json.loads(value)
    tenants = {event["tenant"] for event in events}
    if len(tenants) != 1:
        raise ValueError(f"a commit of {len(tenants)} tenants")
    return events, tenants.pop()


def tell(offset, events):
    """A line for each event of a record."""
    for place, event in enumerate(events):
        said = {name: event.get(name) for name in EVENT}
        print(json.dumps({"offset": offset, "index": place, **said}))


def fold(records, first, show):
    """Section 6 or 7, record by record; what is left is what the partition means."""
    state = Visits() if first["topic"] == "annals.visits" else Fenced()
    counts, void, wrong, sequences = collections.Counter(), [], [], {}
    for offset, headers, value in records():
        try:
            kind = state.admit(offset, headers, value)
        except Void as why:
            void.append(offset)
            wrong.extend([offset] if isinstance(why, Damage) else [])
            continue
        counts[kind] += 1
        if kind == "visits" and show:
            tell(offset, json.loads(value))
        if kind != "commit":
            continue
        try:
            events, tenant = events_of(value)
        except (ValueError, KeyError, TypeError) as error:
            print(f"{first['topic']}/{first['partition']} offset {offset}: no events: {error!r}", file=sys.stderr)
            wrong.append(offset)
            continue
        sequence = int(dict(headers)[b"annals-tenant-seq"])
        if sequence != sequences.get(tenant, 0) + 1:
            wrong.append(offset)
        sequences[tenant] = sequence
        if show:
            tell(offset, events)
    name = f"{first['topic'].removeprefix('annals.')}/{first['partition']}"
    summary = {"partition": name, "log": first["log"], **counts, "void": void, "wrong": wrong}
    print(json.dumps({**summary, **(state.after() or {})}))
    return not wrong


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    where = arguments.add_mutually_exclusive_group(required=True)
    where.add_argument("folder", type=pathlib.Path, nargs="?")
    where.add_argument("--kafka", metavar="HOST:PORT")
    arguments.add_argument("--prefix", default="annals", help="of the topics on Kafka")
    arguments.add_argument("--commits", action="store_true")
    given = arguments.parse_args()
    found = {}
    for name, records in on_kafka(given.kafka, given.prefix) if given.kafka else exported(given.folder):
        first = genesis(name, records)
        found[TOPICS.index(first["topic"]), first["partition"]] = records, first
    if not found:
        sys.exit(f"{given.kafka or given.folder} holds no log")
    complete(found)
    outcomes = [fold(*found[place], given.commits) for place in sorted(found)]
    sys.exit(0 if all(outcomes) else 1)


if __name__ == "__main__":
    main()
