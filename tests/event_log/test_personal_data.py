"""What is personal lies sealed in the log, and its key goes with the event that erases it."""

from typing import Any
from uuid import UUID

import psycopg
import pytest

from command_bus.event_log import ConflictError
from command_bus.ids import new_id
from command_bus.postgres_log import PostgresEventLog
from domain.agents import AgentConnected, AgentRenamed
from domain.erasures import SubjectErased
from domain.event import Change, Event
from domain.ids import AgentId
from domain.personal import ERASED, KEY_MISSING, SubjectKind
from projections.catalog import INLINE
from tests.event_log.samples import created, metadata, queued


def of(agent_id: UUID, version: int, event: Event) -> Change:
    return Change(agent_id, version, event, AgentId(agent_id))


def connected(agent_id: UUID, version: int = 1, address: str = "10.9.8.7") -> Change:
    return of(agent_id, version, AgentConnected(gateway="g", address=address))


def erased(agent_id: UUID, version: int) -> Change:
    return of(agent_id, version, SubjectErased(kind=SubjectKind.AGENT, subject=agent_id))


def stored(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT convert_from(state, 'UTF8') FROM fleetlog.events ORDER BY notification_id"
        ).fetchall()
    return [state for (state,) in rows]


def keys(url: str) -> dict[UUID, Any]:
    with psycopg.connect(url) as connection:
        return dict(connection.execute("SELECT subject, key FROM fleetlog.personal_keys").fetchall())


@pytest.mark.parametrize("way", ["append", "append_each", "append_bulk"])
async def test_it_is_sealed_whichever_way_it_comes(log: PostgresEventLog, postgres_url: str, way: str) -> None:
    """Every way into the log seals it, every way out opens it, and what is not personal is untouched."""
    one, other = new_id(), new_id()
    changes = [
        connected(one),
        queued(one, other, line="ping 10.9.8.7"),
        connected(one, 2, "10.9.8.8"),
        connected(other),
    ]
    match way:
        case "append":
            await log.append(changes, metadata())
        case "append_each":
            outcomes = await log.append_each([(changes[:2], metadata()), (changes[2:], metadata())])
            assert [len(outcome) for outcome in outcomes if isinstance(outcome, list)] == [2, 2]
        case _:
            await log.append_bulk(iter(changes), metadata())
    assert ["10.9.8" in state for state in stored(postgres_url)] == [False, True, False, False]
    assert set(keys(postgres_url)) == {one, other}
    assert [read.event for read in await log.read()] == [change.event for change in changes]
    assert [read.event for read in (await log.read_streams([one]))[one]] == [changes[0].event, changes[2].event]
    assert (await log.read_heads([one]))[one].event == changes[2].event
    closed = [read.event for read in (await log.read_streams([one], closed=True))[one]]
    assert [type(event) for event in closed] == [AgentConnected, AgentConnected]
    assert "10.9.8" not in str(closed)
    rows = await log.read_rows()
    assert [bytes(row[4]).decode() for row in rows] == stored(postgres_url)
    assert b"10.9.8.7" in (await log.open_rows(rows))[0][4]


@pytest.mark.parametrize("inline", [(), INLINE])
async def test_the_key_goes_with_the_event(postgres_url: str, inline: Any) -> None:
    """The erasure and its key are one transaction: refused, it destroys nothing, and recorded, the key is gone."""
    log = PostgresEventLog(postgres_url, inline=inline, name="tests", timeout_s=20)
    await log.start()
    try:
        agent_id = new_id()
        await log.append([connected(agent_id)], metadata())
        with pytest.raises(ConflictError):
            await log.append([erased(agent_id, 1)], metadata())
        assert keys(postgres_url)[agent_id] is not None
        assert [read.event for read in await log.read()] == [connected(agent_id).event]
        # With others in the same commit, of which one has no part in it.
        other = new_id()
        await log.append_each([([created()], metadata()), ([erased(agent_id, 2)], metadata())])
        await log.append([connected(agent_id, 3), connected(other)], metadata())
        assert [key is None for key in (keys(postgres_url)[agent_id], keys(postgres_url)[other])] == [True, False]
        addresses = [one.event.address for one in await log.read() if isinstance(one.event, AgentConnected)]
        assert addresses == [ERASED, ERASED, "10.9.8.7"]
        assert f'"{ERASED}"' in stored(postgres_url)[-2]  # what came too late was never written
    finally:
        await log.stop()


async def test_a_bulk_erases_nobody(log: PostgresEventLog) -> None:
    """An erasure within a bulk is refused: a bulk may be recorded in parts."""
    with pytest.raises(ValueError, match="bulk"):
        await log.append_bulk([created(), erased(new_id(), 1)], metadata())
    assert await log.read() == []


async def test_what_was_recorded_before_is_withheld(log: PostgresEventLog, postgres_url: str) -> None:
    """An event from before there was sealing reads as it did, until its subject is erased; its bytes stay."""
    agent_id = new_id()
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(
            "INSERT INTO fleetlog.events (originator_id, originator_version, correlation_id, actor, topic, state,"
            " agent_id) VALUES (%s, 1, %s, 'system', 'AgentRenamed/1', '{\"name\":\"ada\"}', %s)",
            [agent_id, new_id(), agent_id],
        )
    assert [one.event for one in await log.read()] == [AgentRenamed(name="ada")]
    rows = await log.read_rows()
    assert await log.withheld(rows) == frozenset()
    await log.append([erased(agent_id, 2)], metadata())
    assert next(one.event for one in await log.read()) == AgentRenamed(name=ERASED)
    assert await log.withheld(await log.read_rows()) == {0}
    assert stored(postgres_url)[0] == '{"name":"ada"}'


async def test_lost_keys_are_told_from_erased_ones(log: PostgresEventLog, postgres_url: str) -> None:
    """A log without its keys says so, and nobody takes it for an erasure."""
    await log.append([connected(new_id())], metadata())
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute("TRUNCATE fleetlog.personal_keys")
    (read,) = await log.read()
    assert isinstance(read.event, AgentConnected)
    assert read.event.address == KEY_MISSING
