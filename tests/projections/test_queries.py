"""Lists: filters, pages, tenants."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from domain.agents import Agent
from domain.clients import Client
from domain.commands import CommandState, Ping
from domain.scopes import Scope
from domain.sites import Site
from projections.agents import count_agents, get_agent, get_agent_detail, list_agents
from projections.api_keys import get_api_key, list_api_keys
from projections.clients import get_client, get_site, list_clients, list_sites
from projections.commands import get_command, list_commands
from projections.errors import InvalidCursorError
from projections.pages import Page
from projections.pending import (
    agents_due,
    agents_with_pending,
    cancels,
    counts,
    expired,
    list_pending,
    open_of,
    queue_depths,
)
from projections.runner import Projector
from projections.scripts import get_revision, get_script, list_revisions, list_scripts
from projections.tokens import get_token, list_tokens
from projections.wait import PositionWaiter
from tests.projections.database import deliverable, record
from tests.projections.histories import LATER, NOW, Fleet
from tests.projections.running import EVERYBODY, PATIENCE_S

Reader = psycopg.AsyncConnection[Any]
SECOND = timedelta(seconds=1)


class World:
    """Two tenants with a history each, and what there is of both."""

    def __init__(self, url: str, waiter: PositionWaiter) -> None:
        # One whose history has some of everything; and what is erased is not what its aggregate holds.
        self.fleet = Fleet(3, erases=False)
        self._url = url
        self._waiter = waiter

    async def record(self, appends: Any) -> None:
        position = await record(self._url, [(changes, self.fleet.metadata()) for changes in appends if changes])
        await self._waiter.wait(position, EVERYBODY, PATIENCE_S)

    @property
    def tenant(self) -> frozenset[UUID]:
        return frozenset({self.fleet.clients[0].stream_id})


@pytest.fixture
async def world(postgres_url: str, projector: Projector, waiter: PositionWaiter) -> AsyncIterator[World]:
    assert projector.failure is None
    world = World(postgres_url, waiter)
    await world.record(list(world.fleet.history(400)))
    return world


async def every(fetch: Callable[..., Awaitable[Page[Any]]], *arguments: Any, limit: int, **filters: Any) -> list[Any]:
    rows: list[Any] = []
    cursor = None
    while True:
        page = await fetch(*arguments, cursor=cursor, limit=limit, **filters)
        assert len(page.items) <= limit
        rows += page.items
        cursor = page.next
        if cursor is None:
            return rows


LISTS = [list_clients, list_sites, list_agents, list_scripts, list_commands, list_tokens, list_api_keys]


async def test_pages_together_are_the_list(world: World, reader: Reader) -> None:
    """Whatever the page size, following the cursors gives each row once, in the list's order."""
    for fetch in LISTS:
        whole = (await fetch(reader, client_ids=None, limit=1000)).items
        assert len(whole) > 3, fetch
        for limit in (1, 3):
            assert await every(fetch, reader, client_ids=None, limit=limit) == whole
    by_id = await every(list_agents, reader, client_ids=None, limit=2, sort="id")
    assert [row.agent_id for row in by_id] == sorted(
        agent.stream_id for agent in (*world.fleet.agents, *world.fleet.newcomers.agents)
    )
    named = (await list_agents(reader, client_ids=None)).items
    assert [row.sort_key.encode() for row in named] == sorted(row.name.casefold().encode() for row in named)


async def test_a_tenant_sees_its_own_alone(world: World, reader: Reader) -> None:
    """Invariant 8: no list, no queue and no lookup shows a row of another tenant; no tenant at all sees nothing."""
    ours = world.tenant
    scope = Scope.of(ours)
    for fetch in (list_clients, list_sites, list_agents, list_commands, list_tokens):
        everything = (await fetch(reader, client_ids=None, limit=1000)).items
        seen = (await fetch(reader, client_ids=scope, limit=1000)).items
        assert seen == [row for row in everything if row.client_id in ours]
        assert 0 < len(seen) < len(everything)
        assert (await fetch(reader, client_ids=Scope(), limit=1000)).items == []
    lookups: list[tuple[Any, Any, str]] = [
        (list_clients, get_client, "client_id"),
        (list_sites, get_site, "site_id"),
        (list_agents, get_agent, "agent_id"),
        (list_commands, get_command, "command_id"),
        (list_tokens, get_token, "token_id"),
    ]
    for fetch, get, name in lookups:
        for row in (await fetch(reader, client_ids=None, limit=1000)).items:
            found = await get(reader, getattr(row, name), client_ids=scope)
            assert found == (row if row.client_id in ours else None)
            assert await get(reader, getattr(row, name), client_ids=Scope()) is None
    for agent in world.fleet.agents:
        queue = (await list_pending(reader, agent.stream_id, client_ids=None)).items
        seen_queue = (await list_pending(reader, agent.stream_id, client_ids=scope)).items
        assert seen_queue == [row for row in queue if row.client_id in ours]
    keys = (await list_api_keys(reader, client_ids=None)).items
    within = [
        key
        for key in keys
        if key.grants is not None
        and all(not grant.everything and grant.scope.known_clients <= ours for grant in key.grants)
    ]
    assert (await list_api_keys(reader, client_ids=scope)).items == within
    assert 0 < len(within) < len(keys)
    for key in keys:
        assert await get_api_key(reader, key.api_key_id, client_ids=scope) == (key if key in within else None)
    for row in (await list_agents(reader, client_ids=None, limit=1000)).items:
        detail = await get_agent_detail(reader, row.agent_id, client_ids=scope)
        assert (detail is not None) is (row.client_id in ours)
    assert (await count_agents(reader, client_ids=scope)).total < (await count_agents(reader, client_ids=None)).total


async def test_the_whole_fleet_is_counted_as_its_parts_are(
    world: World, reader: Reader, admin: psycopg.Connection[Any]
) -> None:
    """What is read of indexes adds up to what all clients together have, retired ones or not."""
    del world
    admin.execute(
        "UPDATE read.agents SET state = 'retired' WHERE agent_id IN (SELECT agent_id FROM read.agents LIMIT 2)"
    )
    admin.execute("UPDATE read.agents SET online = NOT online, duplicate = '{}' WHERE state = 'retired'")
    (retired,) = admin.execute("SELECT count(*) FROM read.agents WHERE state = 'retired'").fetchall()[0]
    every = Scope.of({row.client_id for row in (await list_clients(reader, client_ids=None, limit=1000)).items})
    for more in ({}, {"retired": False}):
        counted = await count_agents(reader, client_ids=None, **more)  # type: ignore[arg-type]
        assert counted == await count_agents(reader, client_ids=every, **more)  # type: ignore[arg-type]
        assert (counted.total > 2, counted.retired) == (True, 0 if more else retired)


async def test_versions_are_those_of_the_streams(world: World, reader: Reader) -> None:
    """A row's version is its stream's, which an update must name."""
    for agent in world.fleet.agents:
        row = await get_agent(reader, agent.stream_id, client_ids=None)
        assert row is not None
        assert (row.version, row.name, row.state, row.tags) == (agent.version, agent.name, agent.state, agent.tags)
    for command in world.fleet.commands:
        shown = await get_command(reader, command.stream_id, client_ids=None)
        assert shown is not None
        assert (shown.version, shown.state, shown.attempt) == (command.version, command.state, command.attempt)
    for client in world.fleet.clients:
        named = await get_client(reader, client.stream_id, client_ids=None)
        assert named is not None
        assert (named.version, named.name) == (client.version, client.name)
    for token in world.fleet.tokens:
        used = await get_token(reader, token.stream_id, client_ids=None)
        assert used is not None
        assert (used.version, used.uses, used.revoked_at is not None) == (token.version, token.uses, token.revoked)


async def test_scripts_show_their_revisions(world: World, reader: Reader) -> None:
    """Each revision reads as it was written, newest first."""
    for script in world.fleet.scripts:
        row = await get_script(reader, script.stream_id, client_ids=None)
        assert row is not None
        assert (row.version, row.latest_revision, row.archived) == (
            script.version,
            len(script.revisions),
            script.archived,
        )
        revisions = await every(list_revisions, reader, script.stream_id, client_ids=None, limit=2)
        assert [revision.content for revision in revisions] == script.revisions[::-1]
        assert await get_revision(reader, script.stream_id, 1, client_ids=None) == revisions[-1]
        assert await get_revision(reader, script.stream_id, 999, client_ids=None) is None


@pytest.mark.usefixtures("world")
async def test_commands_are_found_by_what_is_asked(reader: Reader) -> None:
    """Newest first, by agent, state, client, script and time."""
    rows = (await list_commands(reader, client_ids=None, limit=1000)).items
    assert [row.position for row in rows] == sorted((row.position for row in rows), reverse=True)
    scripted = next(row for row in rows if row.script_id is not None)
    middle = rows[len(rows) // 2]
    filters: list[tuple[dict[str, Any], Callable[[Any], bool]]] = [
        ({"agent_id": middle.agent_id}, lambda row: row.agent_id == middle.agent_id),
        ({"states": (middle.state,)}, lambda row: row.state is middle.state),
        ({"states": tuple(CommandState)[:4]}, lambda row: row.state in tuple(CommandState)[:4]),
        ({"client_id": middle.client_id}, lambda row: row.client_id == middle.client_id),
        ({"script_id": scripted.script_id}, lambda row: row.script_id == scripted.script_id),
        ({"since": middle.queued_at}, lambda row: row.queued_at >= middle.queued_at),
        ({"since": LATER + timedelta(days=9999)}, lambda _: False),
    ]
    for given, fits in filters:
        found = (await list_commands(reader, client_ids=None, limit=1000, **given)).items
        assert found == [row for row in rows if fits(row)], given
        assert len(found) < len(rows), given


@pytest.mark.parametrize("cursor", ["", "x", "%%%", "bm9uc2Vuc2U", "WyJwb3NpdGlvbiJd", "W10", "\u00e9", "=" * 50])
async def test_a_made_up_cursor_is_refused(reader: Reader, cursor: str) -> None:
    """A cursor that no list gave out is the caller's error, never the server's."""
    for fetch in LISTS:
        with pytest.raises(InvalidCursorError):
            await fetch(reader, client_ids=None, cursor=cursor)


async def test_a_cursor_serves_its_own_order_alone(world: World, reader: Reader) -> None:
    """A cursor of the list by name is refused by the list by id."""
    page = await list_agents(reader, client_ids=None, limit=1)
    assert page.next is not None
    assert world.fleet.agents
    with pytest.raises(InvalidCursorError):
        await list_agents(reader, client_ids=None, sort="id", cursor=page.next)


async def a_quiet_agent(world: World) -> Agent:
    """A new agent at a new client, with nothing pending."""
    fleet = world.fleet
    await world.record([fleet.new_client()])
    client: Client = fleet.clients[-1]
    await world.record([fleet.new_site(client)])
    site: Site = fleet.sites[-1]
    await world.record([fleet.new_agent(site)])
    return fleet.agents[-1]


async def test_a_queue_is_in_the_order_of_delivery(world: World, reader: Reader) -> None:
    """Priority first, then position; the window is what the agent may still take."""
    agent = await a_quiet_agent(world)
    priorities = (5, 0, 9, 5, 0)
    await world.record(
        [world.fleet.queue(agent, priority=p, not_before=None, hours=None, spec=Ping()) for p in priorities]
    )
    queued = world.fleet.commands[-5:]
    wanted = [queued[i].stream_id for i in (1, 4, 0, 3, 2)]
    listed = await every(list_pending, reader, agent.stream_id, client_ids=None, limit=2)
    assert [row.command_id for row in listed] == wanted
    rows = await deliverable(reader, [agent.stream_id], now=NOW, window=50)
    assert [row.command_id for row in rows] == wanted
    await world.record([queued[1].deliver(1, "g"), queued[4].start(1, NOW, "g")])
    rows = await deliverable(reader, [agent.stream_id], now=NOW, window=3)
    assert [row.command_id for row in rows] == wanted[2:3]
    assert await deliverable(reader, [agent.stream_id], now=NOW, window=2) == []
    found = (await counts(reader, [agent.stream_id, uuid4()]))[agent.stream_id]
    assert (found.queued, found.delivered, found.running, found.open) == (3, 1, 1, 5)


async def test_what_must_not_be_delivered_is_not(world: World, reader: Reader) -> None:
    """Invariant 5: not before its time, not after its expiry, not once a cancellation was asked for."""
    agent = await a_quiet_agent(world)
    fleet = world.fleet
    await world.record(
        [
            fleet.queue(agent, priority=1, not_before=NOW + 10 * SECOND, hours=None),
            fleet.queue(agent, priority=2, not_before=None, expires_at=NOW + 20 * SECOND, hours=None),
            fleet.queue(agent, priority=3, not_before=None, hours=None),
        ]
    )
    later, short, unwanted = fleet.commands[-3:]
    await world.record([unwanted.cancel("no", in_flight=True)])

    async def found(seconds: int) -> list[UUID]:
        rows = await deliverable(reader, [uuid4(), agent.stream_id], now=NOW + seconds * SECOND, window=50)
        return [row.command_id for row in rows]

    assert await found(9) == [short.stream_id]
    assert await found(10) == [later.stream_id, short.stream_id]
    assert await found(20) == [later.stream_id]
    of_agent = [one.command_id for one in await cancels(reader) if one.agent_id == agent.stream_id]
    assert of_agent == [unwanted.stream_id]
    assert agent.stream_id not in await agents_due(reader, since=NOW, now=NOW + 9 * SECOND)
    assert agent.stream_id in await agents_due(reader, since=NOW, now=NOW + 10 * SECOND)
    assert agent.stream_id not in await agents_due(reader, since=NOW + 10 * SECOND, now=LATER)
    due = [command_id for command_id, _ in await expired(reader, NOW + 20 * SECOND, 1000)]
    assert short.stream_id in due
    assert later.stream_id not in due
    assert agent.stream_id in await agents_with_pending(reader)


async def test_what_is_open_is_found_by_its_agents(world: World, reader: Reader) -> None:
    """Of the agents that are named all open commands, and nobody else's."""
    some = [agent.stream_id for agent in world.fleet.agents][::2]
    wanted = {
        (command.stream_id, command.queued.agent_id)
        for command in world.fleet.commands
        if not command.state.terminal and command.queued.agent_id in some
    }
    assert wanted
    assert set(await open_of(reader, some, 1000)) == wanted


async def test_depths_count_what_is_open(world: World, reader: Reader) -> None:
    """The figures of status are those of the commands themselves."""
    depths = await queue_depths(reader)
    still_open = [command for command in world.fleet.commands if not command.state.terminal]
    by_state = [
        sum(command.state.value == name for command in still_open) for name in ("queued", "delivered", "running")
    ]
    assert [depths.queued, depths.delivered, depths.running] == by_state
    assert depths.agents == len({command.queued.agent_id for command in still_open})
    assert depths.oldest_at is not None
