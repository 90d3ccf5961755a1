"""Whatever is done to the log, with all the rights there are: a verification names the first event it was done to."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from command_bus.archiving import archive
from command_bus.audit.chain import Chain
from domain.event import Recorded
from schema.archive import encode_manifest, hash_of, make_segment, unpack
from schema.audit.checkpoints import Checkpoint, encode_statement, sign
from schema.audit.comparing import Kind
from schema.audit.folder import verify_archive
from tests.audit.chaining import EVERY, chain_all, connect, kept_outside, open_chain, verified

GAP = 701
"""A position that no event took."""
VICTIM = 640

ALTERATIONS = {
    "body": "state = convert_to(replace(convert_from(state, 'UTF8'), '\"', '\" '), 'UTF8')",
    "actor": "actor = 'key:somebody-else'",
    "time": "recorded_at = recorded_at + interval '1 microsecond'",
    "type": "topic = topic || '0'",
    "version": "originator_version = originator_version + 1000",
    "stream": "originator_id = gen_random_uuid()",
    "agent": "agent_id = CASE WHEN agent_id IS NULL THEN gen_random_uuid() END",
    "client": "client_id = CASE WHEN client_id IS NULL THEN gen_random_uuid() END",
    "correlation": "correlation_id = gen_random_uuid()",
    "cause": "causation_id = CASE WHEN causation_id IS NULL THEN gen_random_uuid() END",
}


@contextmanager
def tampering(owner: psycopg.Connection[Any]) -> Iterator[psycopg.Connection[Any]]:
    """A transaction of the superuser, free of every trigger; undone at its end."""
    with owner.transaction(force_rollback=True):
        owner.execute("SET LOCAL session_replication_role TO replica")
        owner.execute("SET LOCAL TimeZone TO 'UTC'")
        yield owner


@pytest.fixture
def owner(postgres_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def chain(events: list[Recorded], postgres_url: str) -> Iterator[Chain]:
    assert GAP not in {event.position for event in events}
    with connect(postgres_url) as connection:
        yield chain_all(connection)


def found(owner: psycopg.Connection[Any]) -> tuple[Kind, int | None]:
    finding = verified(owner).finding
    assert finding is not None
    return finding.kind, finding.position


@pytest.mark.usefixtures("chain")
def test_each_change_of_an_event_is_named(owner: psycopg.Connection[Any]) -> None:
    """Every column of an event is under the chain: changing any is found, at that event and no other."""
    assert verified(owner).ok
    for name, change in ALTERATIONS.items():
        with tampering(owner):
            alter = SQL("UPDATE fleetlog.events SET {} WHERE notification_id IN (%s, %s)").format(SQL(change))
            owner.execute(alter, [VICTIM, VICTIM + 400])
            assert found(owner) == (Kind.ALTERED, VICTIM), name
    assert verified(owner).ok


@pytest.mark.usefixtures("chain")
def test_missing_inserted_and_reordered_events_are_named(owner: psycopg.Connection[Any]) -> None:
    """An event taken away, slipped in, exchanged with another or moved elsewhere is told as that."""
    move = "UPDATE fleetlog.events SET notification_id = %s WHERE notification_id = %s"
    with tampering(owner):
        owner.execute("DELETE FROM fleetlog.events WHERE notification_id = %s", [VICTIM])
        assert found(owner) == (Kind.MISSING, VICTIM)
    with tampering(owner):
        owner.execute("DELETE FROM fleetlog.events WHERE notification_id BETWEEN 300 AND 900")
        assert found(owner) == (Kind.MISSING, 300)
    with tampering(owner):
        owner.execute(
            "INSERT INTO fleetlog.events SELECT %s, gen_random_uuid(), 1, agent_id, client_id, recorded_at,"
            " correlation_id, causation_id, actor, topic, state FROM fleetlog.events WHERE notification_id = %s",
            [GAP, VICTIM],
        )
        assert found(owner) == (Kind.INSERTED, GAP)
    with tampering(owner):
        owner.execute(move.encode(), [0, VICTIM])
        owner.execute(move.encode(), [VICTIM, VICTIM + 3])
        owner.execute(move.encode(), [VICTIM + 3, 0])
        assert found(owner) == (Kind.REORDERED, VICTIM)
    with tampering(owner):
        owner.execute(move.encode(), [GAP, 705])
        assert found(owner) == (Kind.REORDERED, GAP)
    with tampering(owner):
        owner.execute(move.encode(), [GAP, 690])
        assert found(owner) == (Kind.REORDERED, 690)


@pytest.mark.usefixtures("chain")
def test_the_chains_own_rows_cannot_be_bent(owner: psycopg.Connection[Any]) -> None:
    """Pages, checkpoints and signatures hold each other: changing or taking away one of them is found."""
    second = kept_outside(owner, 2, with_leaves=False)
    first, last = second.statement.first_position, second.statement.last_position
    forged = encode_statement(msgspec.structs.replace(second.statement, root="0" * 64))
    signature = bytes.fromhex(sign(b"\x07" * 32, forged).signature)
    cases = {
        "DELETE FROM fleetlog.chain_pages WHERE number = 3": Kind.CHAIN,
        "UPDATE fleetlog.chain_pages SET head = sha256('x') WHERE number = 3": Kind.CHAIN,
        "DELETE FROM fleetlog.chain_pages WHERE number = (SELECT max(number) - 1 FROM fleetlog.chain_pages)":
            Kind.CHAIN,
        "DELETE FROM fleetlog.chain_checkpoints WHERE number = 2": Kind.CHECKPOINT,
        "UPDATE fleetlog.chain_signatures SET signature = sha256('x') || sha256('y') WHERE checkpoint = 2":
            Kind.CHECKPOINT,
        "DELETE FROM fleetlog.chain_signatures WHERE checkpoint = 2": Kind.CHECKPOINT,
    }  # fmt: skip
    for statement, kind in cases.items():
        with tampering(owner):
            owner.execute(statement.encode())
            assert found(owner)[0] is kind, statement
    with tampering(owner):
        owner.execute("UPDATE fleetlog.chain_checkpoints SET statement = %s WHERE number = 2", [forged])
        assert found(owner)[0] is Kind.CHECKPOINT
        owner.execute("UPDATE fleetlog.chain_signatures SET signature = %s WHERE checkpoint = 2", [signature])
        assert found(owner)[0] is Kind.CHECKPOINT
    with tampering(owner):
        owner.execute(
            "UPDATE fleetlog.chain_pages SET entries = set_byte(entries, 20, get_byte(entries, 20) # 1)"
            " WHERE last_position = %s",
            [last],
        )
        assert found(owner) == (Kind.ALTERED, first)
    assert verified(owner).ok


def rewrite(owner: psycopg.Connection[Any]) -> None:
    """Make the chain anew over what the log now says, signed with the key that lies beside it."""
    for table in ("chain_signatures", "chain_exports", "chain_checkpoints", "chain_pages"):
        owner.execute(SQL("DELETE FROM {}").format(Identifier("fleetlog", table)))
    chain_all(owner)


@pytest.mark.usefixtures("chain")
def test_a_chain_that_was_written_anew_is_betrayed_by_what_was_exported(owner: psycopg.Connection[Any]) -> None:
    """Whoever has the database and the key can make all agree, but not with a checkpoint that was kept outside."""
    number = VICTIM // EVERY + 1
    bare, whole = (kept_outside(owner, number, with_leaves=with_leaves) for with_leaves in (False, True))
    later = kept_outside(owner, number + 1, with_leaves=True)
    assert verified(owner, [bare]).outside == verified(owner, [whole]).outside == 1
    with tampering(owner):
        owner.execute("UPDATE fleetlog.events SET actor = 'nobody' WHERE notification_id = %s", [VICTIM])
        rewrite(owner)
        assert verified(owner).ok
        for kept, kind, position in (
            (bare, Kind.REWRITTEN, bare.statement.first_position),
            (whole, Kind.ALTERED, VICTIM),
            (later, Kind.REWRITTEN, later.statement.first_position),
        ):
            finding = verified(owner, [kept]).finding
            assert finding is not None
            assert (finding.kind, finding.position) == (kind, position)
    with tampering(owner):
        owner.execute("DELETE FROM fleetlog.events WHERE notification_id > %s", [VICTIM])
        rewrite(owner)
        assert verified(owner).ok
        finding = verified(owner, [later]).finding
        assert finding is not None
        assert finding.kind is Kind.REWRITTEN


def test_a_key_outside_of_the_database_cannot_be_signed_for(
    events: list[Recorded], owner: psycopg.Connection[Any], tmp_path: Path
) -> None:
    """With the key in a file, a chain that was written anew is signed by another: a verifier who knows it sees that."""
    chain_all(owner, key_file=tmp_path / "key.pem")
    [key] = verified(owner).keys
    with tampering(owner):
        owner.execute("UPDATE fleetlog.events SET actor = 'nobody' WHERE notification_id = %s", [events[5].position])
        rewrite(owner)
        assert verified(owner).keys != [key]
    assert verified(owner).keys == [key]


@pytest.mark.usefixtures("chain")
@pytest.mark.parametrize("in_files", [False, True])
def test_archived_events_are_under_the_chain(
    owner: psycopg.Connection[Any], postgres_url: str, tmp_path: Path, *, in_files: bool
) -> None:
    """What has moved to the archive verifies as before; a segment that was packed anew, hashes and all, is found."""
    before = verified(owner)
    folder = tmp_path / "archive" if in_files else None
    assert archive(postgres_url, timedelta(0), folder, segment_streams=40).segments > 2
    # What the run says of each segment is not chained yet.
    after = verified(owner)
    assert after.unchained > before.unchained
    assert msgspec.structs.replace(after, unchained=before.unchained) == before
    if folder is not None:
        kept = [kept_outside(owner, number, with_leaves=True) for number in range(1, before.last_checkpoint + 1)]
        report = verify_archive(folder, kept)
        assert report.ok
        assert 0 < report.vouched_for <= report.events
    manifest, (block, *_), file = forged_segment(owner)
    with tampering(owner):
        if in_files:
            Path(file).write_bytes(block)
        owner.execute(
            "UPDATE fleetlog.archive_blocks SET sha256 = decode(%s, 'hex'), size = %s, data = %s WHERE segment = 2",
            [manifest.blocks[0].sha256, len(block), None if in_files else block],
        )
        text = encode_manifest(manifest)
        owner.execute(
            "UPDATE fleetlog.archive_segments SET manifest = %s, manifest_sha256 = decode(%s, 'hex') WHERE number = 2",
            [text, hash_of(text)],
        )
        assert found(owner) == (Kind.ALTERED, manifest.blocks[0].first_position)
    if folder is not None:
        damaged = verify_archive(folder, kept).finding
        assert damaged is not None
        place = Path(file).with_suffix(".json")
        place.write_text(text)
        finding = verify_archive(folder, kept).finding
        assert finding is not None
        assert (finding.kind, finding.position) == (Kind.ALTERED, manifest.blocks[0].first_position)


def forged_segment(owner: psycopg.Connection[Any]) -> tuple[Any, list[bytes], str]:
    """The second segment, whose first event another actor has caused."""
    number, sha256, data, file, start, size, previous = owner.execute(
        "SELECT b.segment, encode(b.sha256, 'hex'), b.data, s.file, b.start, b.size, s.manifest::json ->> 'previous'"
        " FROM fleetlog.archive_blocks AS b JOIN fleetlog.archive_segments AS s ON s.number = b.segment"
        " WHERE segment = 2 AND block = 0"
    ).fetchone() or (0, "", b"", "", 0, 0, "")
    rows = unpack(Path(file).read_bytes()[start : start + size] if file else bytes(data), sha256)
    rows[0] = (*rows[0][:6], "key:somebody-else", *rows[0][7:])
    manifest, parts = make_segment(number, previous, rows)
    return manifest, parts, file


def test_a_verification_may_begin_at_a_checkpoint(owner: psycopg.Connection[Any], chain: Chain) -> None:
    """From a position on, only what is after the checkpoint before it is read; what is before is taken as it was."""
    since = kept_outside(owner, 3, with_leaves=False).statement.last_position
    report = verified(owner, since=since + 10)
    assert (report.ok, report.since, report.last_checkpoint) == (True, since, chain.checkpoint)
    assert report.events == verified(owner).events - 3 * EVERY
    with tampering(owner):
        owner.execute("UPDATE fleetlog.events SET actor = '' WHERE notification_id IN (%s, %s)", [VICTIM, since + 5])
        finding = verified(owner, since=since).finding
        assert finding is not None
        assert finding.position == since + 5


def test_what_is_not_chained_or_signed_yet_is_counted(owner: psycopg.Connection[Any], chain: Chain) -> None:
    """Events at the end that no page or no checkpoint vouches for are told, since they could be changed unseen."""
    report = verified(owner)
    assert (report.under_no_checkpoint, report.unchained) == (report.events - chain.checkpoint * EVERY, 0)
    with tampering(owner):
        owner.execute("DELETE FROM fleetlog.chain_pages WHERE number = %s", [chain.number])
        assert verified(owner).unchained == report.under_no_checkpoint
    resumed = open_chain(owner)
    assert resumed.seal() is not None
    assert verified(owner).under_no_checkpoint == 0


def test_a_countersignature_is_verified(owner: psycopg.Connection[Any], chain: Chain) -> None:
    """Somebody else's signature is counted when it is theirs, and found out when it is not."""
    assert chain.checkpoint > 2
    kept = kept_outside(owner, 2, with_leaves=False).checkpoint
    signed = sign(b"\x09" * 32, kept.statement, "auditor")
    assert Checkpoint(kept.statement, [*kept.signatures, signed]).verify().number == 2
    add = "INSERT INTO fleetlog.chain_signatures VALUES (2, %s, %s, 'auditor')"
    with tampering(owner):
        owner.execute(add.encode(), [bytes.fromhex(signed.key), bytes.fromhex(signed.signature)])
        assert verified(owner).countersigned == 1
    with tampering(owner):
        owner.execute(add.encode(), [bytes.fromhex(signed.key), bytes(64)])
        assert found(owner)[0] is Kind.CHECKPOINT
