#!/usr/bin/env python3
"""Reads the log format from schemas/LEDGER.md alone and checks every vector beside this file.

Shares no code with Annals and needs the standard library only: what is written here is what any other
language needs to follow the ledger.
"""

import base64
import binascii
import hashlib
import json
import pathlib
import re
import sys
import uuid

HASHED = ["content-type", "annals-kind", "annals-epoch", "annals-seq", "annals-tenant-seq", "annals-command"]
KNOWN = HASHED + ["annals-hash"]
BATCH, JSON = b"application/cloudevents-batch+json", b"application/json"
MEDIA_TYPE = {b"genesis": JSON, b"claim": JSON, b"commit": BATCH, b"visits": BATCH}
NEEDED = {
    b"genesis": set(),
    b"claim": {"annals-epoch"},
    b"commit": {"annals-epoch", "annals-seq", "annals-tenant-seq", "annals-hash"},
    b"visits": set(),
}
COMMAND = re.compile(rb"(key|id)=[0-9a-f]{32};request=[0-9a-f]{32}")


class Void(Exception):
    """A record that means nothing, with the reason."""


# Section 6: no writer is so many numbers ahead of what is admitted.
FARTHEST_AHEAD = 16_384


class Damage(Void):
    """One that no writer makes where it stands: somebody else did, or the log has lost a part of it."""


def known_headers(headers):
    """Section 3: the headers that have a meaning, well-formed for the record's kind."""
    found = {}
    for name, value in headers:
        name = name.decode("utf-8", "replace")
        if name in KNOWN:
            if name in found:
                raise Void(f"{name} stands twice")
            found[name] = value
    kind = found.get("annals-kind")
    if kind not in MEDIA_TYPE:
        raise Void("no kind that we know")
    if found.get("content-type") != MEDIA_TYPE[kind]:
        raise Void("another media type")
    allowed = NEEDED[kind] | ({"annals-command"} if kind == b"commit" else set())
    rest = set(found) - {"annals-kind", "content-type"}
    if not NEEDED[kind] <= rest <= allowed:
        raise Void("a header is missing or out of place")
    for name in rest & {"annals-epoch", "annals-seq", "annals-tenant-seq"}:
        if not re.fullmatch(rb"[1-9][0-9]*", found[name]) or int(found[name]) >= 2**64:
            raise Void(f"{name} is not a number from 1 to 2^64-1")
    if "annals-command" in rest and not COMMAND.fullmatch(found["annals-command"]):
        raise Void("annals-command has another form")
    if "annals-hash" in rest and not re.fullmatch(rb"[0-9a-f]{64}", found["annals-hash"]):
        raise Void("annals-hash has another form")
    return kind, found


def chain(previous, found, value):
    """Section 4: the hash of a record after its predecessor's."""
    digest = hashlib.sha256(previous)
    for name in HASHED:
        if name in found:
            for part in (name.encode(), found[name]):
                digest.update(len(part).to_bytes(4, "big") + part)
    digest.update(len(value).to_bytes(8, "big") + value)
    return digest.digest()


MEMBERS = ["log", "format", "topic", "partition", "partitions", "slots", "slot_hash", "record_hash"]


class Members(list):
    """Those of an object, in pairs: one may stand twice."""


def check_genesis(value):
    """Section 5: whether a genesis is one that we understand."""
    try:
        members = json.loads(value.decode(), object_pairs_hook=Members)
        if not isinstance(members, Members) or sorted(n for n, _ in members if n in MEMBERS) != sorted(MEMBERS):
            raise ValueError("a member is missing or stands twice")
        genesis = dict(members)
        numbers = [genesis["format"], genesis["partition"], genesis["partitions"], *sum(genesis["slots"], [])]
        fits = (
            all(type(number) is int and 0 <= number < 2**32 for number in numbers)
            and str(uuid.UUID(genesis["log"])) == genesis["log"]
            and isinstance(genesis["topic"], str)
            and all(len(entry) == 3 for entry in genesis["slots"])
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Void(f"not a genesis: {error}") from error
    following, partitions = 0, set(range(genesis["partitions"]))
    for first, last, _ in genesis["slots"]:
        fits = fits and first == following and last >= first
        following = last + 1
    fits = fits and following == 16384 and {entry[2] for entry in genesis["slots"]} == partitions
    fits = fits and genesis["partition"] in partitions and genesis["format"] == 1
    if not fits or genesis["slot_hash"] != "crc16-xmodem" or genesis["record_hash"] != "sha256":
        raise Void("a genesis that we do not understand")


class Fenced:
    """Section 6: admission to a partition of the directory or the ledger."""

    def __init__(self):
        self.epoch, self.seq, self.hash = 0, 0, bytes(32)

    def admit(self, offset, headers, value):
        kind, found = known_headers(headers)
        begun = self.hash != bytes(32)
        if kind == b"genesis":
            if offset != 0 or begun:
                raise Void("a genesis counts at offset 0 only")
            check_genesis(value)
        elif not begun:
            raise Void("the partition has no genesis")
        elif kind == b"claim":
            if int(found["annals-epoch"]) != self.epoch + 1:
                ahead = int(found["annals-epoch"]) > self.epoch + 1
                raise (Damage if ahead else Void)("not the next epoch")
            self.epoch, self.seq = self.epoch + 1, 0
        elif kind == b"commit":
            if int(found["annals-epoch"]) != self.epoch:
                ahead = int(found["annals-epoch"]) > self.epoch
                raise (Damage if ahead else Void)("not the current epoch")
            if int(found["annals-seq"]) != self.seq + 1:
                ahead = int(found["annals-seq"]) > self.seq + 1 + FARTHEST_AHEAD
                raise (Damage if ahead else Void)("not the next number")
            if chain(self.hash, found, value).hex().encode() != found["annals-hash"]:
                raise Damage("the hash does not fit")
            self.seq += 1
        else:
            raise Void("visits do not belong here")
        self.hash = chain(self.hash, found, value)
        return kind.decode()

    def after(self):
        return {"epoch": str(self.epoch), "hash": self.hash.hex(), "seq": str(self.seq)}


class Visits:
    """Section 7: admission to a partition of visits."""

    def admit(self, offset, headers, value):
        kind, _ = known_headers(headers)
        if kind == b"genesis" and offset == 0:
            check_genesis(value)
        elif kind != b"visits" or offset == 0:
            raise Void("not visits, or before the genesis")
        return kind.decode()

    def after(self):
        return None


def octets(value):
    return base64.b64decode(value["base64"]) if isinstance(value, dict) else value.encode()


def check_log(vector):
    fold = Visits() if vector["topic"] == "annals.visits" else Fenced()
    for record in vector["records"]:
        headers = [(octets(name), octets(value)) for name, value in record["headers"]]
        try:
            verdict = fold.admit(record["offset"], headers, octets(record["value"]))
        except Void as why:
            verdict = "void"
            print(f"  {record['offset']:3} void: {why} ({record['about']})")
        assert verdict == record["verdict"], f"{record['about']}: {verdict}, expected {record['verdict']}"
        assert fold.after() == record.get("after"), f"{record['about']}: {fold.after()}"
    return len(vector["records"])


def check_slots(vector):
    def slot(octets):
        return binascii.crc_hqx(octets, 0) % 16384

    for tenant in vector["tenants"]:
        assert slot(uuid.UUID(tenant["tenant"]).bytes) == tenant["slot"], tenant
    for visitor in vector["visitors"]:
        octets = uuid.UUID(visitor["tenant"]).bytes + bytes.fromhex(visitor["visitor"])
        assert slot(octets) == visitor["slot"], visitor
    for table in vector["tables"]:
        count = table["partitions"]
        even = [[p * 16384 // count, (p + 1) * 16384 // count - 1, p] for p in range(count)]
        assert even == table["slots"], table
    return len(vector["tenants"]) + len(vector["visitors"]) + len(vector["tables"])


def main():
    paths = sorted(pathlib.Path(__file__).parent.glob("*.json"))
    if len(paths) < 2:
        sys.exit("no vectors beside this file")
    for path in paths:
        print(path.name)
        vector = json.loads(path.read_text(encoding="utf-8"))
        count = check_log(vector) if "records" in vector else check_slots(vector)
        print(f"  {count} checked")


if __name__ == "__main__":
    main()
