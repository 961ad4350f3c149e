#!/usr/bin/env python3
"""Derives the history of a log from what `annals log export` wrote, by schemas/LEDGER.md alone.

    python3 schemas/history.py FOLDER            what each partition holds, as a JSON line
    python3 schemas/history.py FOLDER --commits  and before that each event of each admitted commit

Shares no code with Annals and needs the standard library only; the rules are those of ledger-vectors/check.py.
It ends with 1 when the files are no log, or commits do not fit: what no writer leaves behind.
"""

import argparse
import collections
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent / "ledger-vectors"))
from check import Fenced, Visits, Void, octets  # noqa: E402

TOPICS = ["annals.directory", "annals.ledger", "annals.visits"]
# What is shown of an event.
EVENT = ["type", "subject", "time", "tenant", "aggregateversion", "data"]


def records(path):
    """The records of a partition. A last line without an end was not written whole."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n"):
                record = json.loads(line)
                headers = [(octets(name), octets(value)) for name, value in record["headers"]]
                yield record["offset"], headers, octets(record["value"])


def genesis(path):
    """What the first record says; admission looks at the rest of it."""
    offset, _, value = next(records(path), (None, None, b"null"))
    first = json.loads(value)
    if offset != 0 or not isinstance(first, dict) or first.get("topic") not in TOPICS:
        sys.exit(f"{path}: the first record is no genesis")
    return first


def events_of(value):
    """Section 2: the events of a commit, at least one, all of one tenant."""
    events = json.loads(value)
    tenants = {event["tenant"] for event in events}
    if len(tenants) != 1:
        raise ValueError(f"a commit of {len(tenants)} tenants")
    return events, tenants.pop()


def fold(path, first, show):
    """Section 6 or 7, record by record; what is left is what the partition means."""
    state = Visits() if first["topic"] == "annals.visits" else Fenced()
    counts, void, wrong, sequences = collections.Counter(), [], [], {}
    for offset, headers, value in records(path):
        try:
            kind = state.admit(offset, headers, value)
        except Void:
            void.append(offset)
            continue
        counts[kind] += 1
        if kind != "commit":
            continue
        events, tenant = events_of(value)
        sequence = int(dict(headers)[b"annals-tenant-seq"])
        if sequence != sequences.get(tenant, 0) + 1:
            wrong.append(offset)
        sequences[tenant] = sequence
        for place, event in enumerate(events if show else []):
            said = {name: event.get(name) for name in EVENT}
            print(json.dumps({"offset": offset, "index": place, **said}))
    name = f"{first['topic'].removeprefix('annals.')}/{first['partition']}"
    summary = {"partition": name, "log": first["log"], **counts, "void": void, "wrong": wrong}
    print(json.dumps({**summary, **(state.after() or {})}))
    return not wrong


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("folder", type=pathlib.Path)
    arguments.add_argument("--commits", action="store_true")
    given = arguments.parse_args()
    found = {}
    for path in given.folder.glob("*.ndjson"):
        first = genesis(path)
        found[TOPICS.index(first["topic"]), first["partition"]] = path, first
    if not found:
        sys.exit(f"{given.folder} holds no *.ndjson")
    if len({first["log"] for _, first in found.values()}) != 1:
        sys.exit("these are partitions of several logs")
    outcomes = [fold(*found[place], given.commits) for place in sorted(found)]
    sys.exit(0 if all(outcomes) else 1)


if __name__ == "__main__":
    main()
