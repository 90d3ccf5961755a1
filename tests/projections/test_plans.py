"""No hot query reads a table from end to end, however long the tables are."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import nullcontext
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from domain.agents import AgentState, Platform
from domain.approvals import ApprovalState
from domain.commands import CommandState
from domain.enrollments import EnrollmentState
from domain.ids import ClientId, SiteId
from domain.rollout_terms import Joins, Selector, Target
from domain.rollouts import RolloutState
from domain.scopes import Place, Scope
from domain.users import UserKind
from projections import (
    agents,
    api_keys,
    approvals,
    checks,
    clients,
    commands,
    destinations,
    enrollments,
    fields,
    pending,
    roles,
    rollouts,
    scripts,
    secrets,
    tokens,
    users,
    views,
)
from projections.rollout_reads import RolloutReader
from tests.projections.database import deliverable
from tests.projections.explaining import ExplainingCursor, sorts, tables_scanned
from tests.projections.histories import NOW

FEW = Scope.of([UUID(int=7), UUID(int=8)])
SITES = Scope.of([UUID(int=8)], [Place(SiteId(UUID(int=70)), ClientId(UUID(int=7)))])
AGENT, CLIENT, SITE = UUID(int=77), UUID(int=7), UUID(int=70)
TRACKING = "tracking"
"""One row for each projection: an index would cost more than reading them."""
Reader = psycopg.AsyncConnection[Any]
Query = Callable[[Reader], Awaitable[Any]]

# Ids are counted, so that a test can name them: client = agent mod 100, site = agent mod 1000. Client 7 has half of all
# sites: for a few dozen a sort costs less than the index.
_FILL = """
CREATE FUNCTION pg_temp.id(n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$ SELECT lpad(to_hex(n), 32, '0')::uuid $$;
INSERT INTO read.clients SELECT pg_temp.id(n), 'c' || n, 'c' || n, now(), 1 FROM generate_series(0, 2999) AS n;
INSERT INTO read.sites
    SELECT pg_temp.id(n), pg_temp.id(CASE WHEN n % 2 = 0 THEN 7 ELSE n % 100 END), 's' || n, 's' || n, now(), 1
    FROM generate_series(0, 4999) AS n;
INSERT INTO read.agents
    SELECT pg_temp.id(n), pg_temp.id(n % 100), pg_temp.id(n % 1000), 'a' || n, 'a' || n, 'h' || n, 'h' || n, 'linux',
        'x86_64', '1', 'key' || n, CASE WHEN n % 200 = 0 THEN '["rare"]' ELSE '["web"]' END::jsonb,
        CASE WHEN n % 500 = 0 THEN 'retired' ELSE 'active' END, false, n % 50 = 0, NULL, NULL, '', '', '',
        CASE WHEN n % 2000 = 9 THEN 'Rare OS 1' ELSE 'Debian ' || n % 3 END, '', '{}', NULL,
        lpad(to_hex(n % 2000), 64, '0'), 9, CASE WHEN n % 1000 = 5 THEN 3 ELSE 0 END, 0, now(),
        n % 1000 = 6,
        CASE WHEN n % 1000 = 0 THEN '{}' END::jsonb, 1, now(), 1, n
    FROM generate_series(0, 19999) AS n;
INSERT INTO fleetlog.software_lists (sha256, packed, names)
    SELECT lpad(to_hex(n), 64, '0'), '', ARRAY['bash', CASE WHEN n % 500 = 3 THEN 'rare' ELSE 'vim' END]
    FROM generate_series(0, 1999) AS n;
INSERT INTO read.agent_checks
    SELECT pg_temp.id(n), pg_temp.id(n % 20000), pg_temp.id(n % 9), 'c' || n % 9, 'c' || n % 9,
        CASE WHEN n % 200 = 7 THEN 'failing' WHEN n % 200 = 8 THEN 'warning' ELSE 'passing' END, n % 200 IN (7, 8),
        NULL, now(), NULL, now()
    FROM generate_series(0, 59999) AS n;
INSERT INTO fleetlog.presence
    SELECT pg_temp.id(n), now() - (n * 7919 % 20000) * interval '1 s', 'g' FROM generate_series(0, 19899) AS n;
INSERT INTO read.commands (command_id, agent_id, client_id, site_id, position, kind, script_id, script_revision, spec,
        retry, lane, priority, state, ended_as, attempt, queued_at, expires_at, requester, reason, correlation_id,
        cancel_requested, ending, version)
    SELECT pg_temp.id(n), pg_temp.id(n % 20000), pg_temp.id(n % 100), pg_temp.id(n % 1000), n,
        CASE WHEN n % 1000 = 3 THEN 'reboot' ELSE 'ping' END,
        CASE WHEN n % 2 = 0 THEN pg_temp.id(n % 300) END, 1, '{}', '{}', 'default', 5,
        state, state, 1, now(), now(), '', '', pg_temp.id(n), false, '', 1
    FROM generate_series(0, 59999) AS n,
        LATERAL (SELECT CASE WHEN n % 100 = 0 THEN 'failed' ELSE 'succeeded' END) AS of (state);
INSERT INTO read.pending (command_id, agent_id, client_id, lane, priority, position, state, attempt, not_before,
        expires_at, cancel_requested, cancel_position, queued_at, correlation_id, spec, version, hours)
    SELECT pg_temp.id(n), pg_temp.id(n % 20000), pg_temp.id(n % 100), 'default', n % 10, n,
        CASE WHEN n % 300 = 0 THEN 'delivered' ELSE 'queued' END, 1,
        CASE WHEN n % 40 = 0 THEN '2030-01-01'::timestamptz + n * interval '1 s' END,
        '2030-02-01'::timestamptz + n * interval '1 s', n % 900 = 1, CASE WHEN n % 900 = 1 THEN n END, now(),
        pg_temp.id(n), '{}', 1, CASE WHEN n % 100 = 7 THEN 'hours' || n % 7 END
    FROM generate_series(0, 39999) AS n;
INSERT INTO read.rollouts (rollout_id, position, name, state, client_ids, target, command, targeted, excluded, waves,
        wave_sizes, limits, wave, wave_finished, reason, detail, requester, correlation_id, started_at, version,
        script_id)
    SELECT pg_temp.id(n), n, 'r', CASE WHEN n % 500 = 0 THEN 'running' WHEN n % 500 = 1 THEN 'aborted' ELSE 'completed'
        END, '["00000000-0000-0000-0000-000000000007"]', '{}', '{}', 20, '{}', '[]', '[20]', '{}', 0, false, '', '', '',
        pg_temp.id(n), now(), 1, CASE WHEN n % 2 = 0 THEN pg_temp.id(n % 300) END
    FROM generate_series(0, 2999) AS n;
INSERT INTO read.rollout_commands (command_id, rollout_id, agent_id, client_id, site_id, wave, round, latest, state,
        ended_as, cancel_requested, detail)
    SELECT pg_temp.id(n), pg_temp.id(n % 3000), pg_temp.id(n % 20000), pg_temp.id(7), pg_temp.id(70), n % 3, 1, true,
        CASE WHEN n % 7 = 0 THEN 'queued' ELSE 'succeeded' END, CASE WHEN n % 7 = 0 THEN '' ELSE 'succeeded' END,
        false, ''
    FROM generate_series(0, 59999) AS n;
INSERT INTO read.scripts
    SELECT pg_temp.id(n), 'x' || n, 'x' || n, '', '', false, 1, 'sh', '[]', now(), now(), 1
    FROM generate_series(0, 4999) AS n;
INSERT INTO read.revisions
    SELECT pg_temp.id(n % 1000), n / 1000, '{"shell":"sh","body":"true"}', '', '', now()
    FROM generate_series(0, 9999) AS n;
INSERT INTO read.tokens
    SELECT pg_temp.id(n), pg_temp.id(n % 100), pg_temp.id(n % 1000), 1, 0, now(), '', NULL, now(), '', n, 1,
        CASE WHEN n % 2 = 0 THEN 60 END
    FROM generate_series(0, 9999) AS n;
INSERT INTO read.enrollments
    SELECT pg_temp.id(n), pg_temp.id(n), pg_temp.id(n % 1000), pg_temp.id(n % 100), pg_temp.id(n % 1000), 'h', 'linux',
        '', '', '', '', CASE WHEN n % 20 = 0 THEN 'waiting' ELSE 'approved' END, '', '',
        '2030-01-01'::timestamptz + n * interval '1 s', now(), NULL, n, 1
    FROM generate_series(0, 9999) AS n;
INSERT INTO read.api_keys
    SELECT pg_temp.id(n), 'k', CASE WHEN n % 2 = 0 THEN pg_temp.id(n % 1000) END, '', '[]',
        '["00000000-0000-0000-0000-000000000007"]', NULL, false, NULL, now(), '', n, 1
    FROM generate_series(0, 9999) AS n;
INSERT INTO fleetlog.key_uses SELECT pg_temp.id(n), now() FROM generate_series(0, 9999) AS n;
INSERT INTO read.users
    SELECT pg_temp.id(n), CASE WHEN n % 2 = 0 THEN 'person' ELSE 'service' END, 'u' || n, 'u' || n, '', false, false,
        '[]', '[]', now(), '', 1
    FROM generate_series(0, 4999) AS n;
INSERT INTO read.approvals
    SELECT pg_temp.id(n), CASE WHEN n % 2 = 0 THEN 'waiting' ELSE 'granted' END, 'StartRollout', '{}', '', 1, 'key:y',
        NULL, NULL, NULL, '', now(), '2030-01-01'::timestamptz + n * interval '1 s', NULL, pg_temp.id(n), n, 1
    FROM generate_series(0, 9999) AS n;
INSERT INTO read.roles
    SELECT pg_temp.id(n), 'r' || n, 'r' || n, '[]', '{}', false, now(), '', 1
    FROM generate_series(0, 4999) AS n;
INSERT INTO read.secrets
    SELECT pg_temp.id(n), 's' || n, 's' || n, 'client', pg_temp.id(n % 100), NULL, NULL, 1, '', now(), now(), '', NULL,
        1
    FROM generate_series(0, 9999) AS n;
INSERT INTO read.destinations
    SELECT pg_temp.id(n), 'd' || n, 'd' || n, '{"kind":"webhook","url":"https://x"}', '{}', 0, '[]', false, '', now(),
        '', NULL, NULL, 1
    FROM generate_series(0, 2999) AS n;
INSERT INTO read.views
    SELECT pg_temp.id(n), 'user:' || n % 100, 'v' || n, 'v' || n, '', NULL, NULL, 'name', '[]', n % 2 = 0, now(), '',
        NULL, 1
    FROM generate_series(0, 4999) AS n;
INSERT INTO fleetlog.forwarding (destination_id, position) SELECT pg_temp.id(n), n FROM generate_series(0, 2999) AS n;
INSERT INTO read.fields
    SELECT pg_temp.id(n), 'f' || n, 'f' || n, '{"kind":"text","on":["agent"]}', now(), '', NULL, 1
    FROM generate_series(0, 4999) AS n;
INSERT INTO read.field_values
    SELECT pg_temp.id(n), 'agent', pg_temp.id(n), '{"f1":"x"}', 1 FROM generate_series(0, 19999) AS n;
"""

# Paged lists: besides reading no table whole, they come in the order of an index, so that a page costs a page.
PAGED: dict[str, Query] = {
    "clients": lambda c: clients.list_clients(c, client_ids=None),
    "sites of a client": lambda c: clients.list_sites(c, client_ids=None, client_id=CLIENT),
    "agents": lambda c: agents.list_agents(c, client_ids=None),
    "agents that are two machines": lambda c: agents.list_agents(c, client_ids=None, duplicate=True, limit=50),
    "agents by id": lambda c: agents.list_agents(c, client_ids=None, sort="id"),
    "agents by name, from the end": lambda c: agents.list_agents(c, client_ids=None, sort="-name"),
    "agents that came last": lambda c: agents.list_agents(c, client_ids=None, sort="-id"),
    "agents, those online first": lambda c: agents.list_agents(c, client_ids=None, sort="-online"),
    "agents by platform": lambda c: agents.list_agents(c, client_ids=None, sort="platform"),
    "agents heard of last": lambda c: agents.list_agents(c, client_ids=None, sort="-seen", retired=False),
    "agents heard of longest ago": lambda c: agents.list_agents(c, client_ids=None, sort="seen"),
    "agents by client": lambda c: agents.list_agents(c, client_ids=None, sort="client", retired=False),
    "agents by client, from the end": lambda c: agents.list_agents(c, client_ids=None, sort="-client"),
    "agents that are not retired": lambda c: agents.list_agents(c, client_ids=None, retired=False),
    "agents of a client": lambda c: agents.list_agents(c, client_ids=None, client_id=CLIENT),
    "agents of a site": lambda c: agents.list_agents(c, client_ids=None, site_id=SITE),
    "agents of a platform": lambda c: agents.list_agents(c, client_ids=None, platform=Platform.LINUX),
    "agents online": lambda c: agents.list_agents(c, client_ids=None, online=True),
    "agents retired": lambda c: agents.list_agents(c, client_ids=None, state=AgentState.RETIRED),
    "agents active": lambda c: agents.list_agents(c, client_ids=None, state=AgentState.ACTIVE),
    "scripts": lambda c: scripts.list_scripts(c, client_ids=None),
    "revisions": lambda c: scripts.list_revisions(c, CLIENT, client_ids=None),
    "commands": lambda c: commands.list_commands(c, client_ids=None),
    "commands of an agent": lambda c: commands.list_commands(c, client_ids=None, agent_id=AGENT),
    "commands of a client": lambda c: commands.list_commands(c, client_ids=None, client_id=CLIENT),
    "commands of a script": lambda c: commands.list_commands(c, client_ids=None, script_id=AGENT),
    "commands failed": lambda c: commands.list_commands(c, client_ids=None, states=[CommandState.FAILED]),
    "commands queued": lambda c: commands.list_commands(c, client_ids=None, states=[CommandState.QUEUED]),
    "patches": lambda c: commands.list_commands(c, client_ids=None, patches=True),
    "patches of an agent": lambda c: commands.list_commands(c, client_ids=None, agent_id=AGENT, patches=True),
    "rollouts": lambda c: rollouts.list_rollouts(c, client_ids=None),
    "rollouts running": lambda c: rollouts.list_rollouts(c, client_ids=None, state=RolloutState.RUNNING),
    "rollouts of a script": lambda c: rollouts.list_rollouts(c, client_ids=None, script_id=AGENT),
    "agents of a rollout": lambda c: rollouts.list_members(c, CLIENT, states=["queued"]),
    "agents of a rollout that failed": lambda c: rollouts.list_members(c, CLIENT, states=["failed"]),
    "tokens": lambda c: tokens.list_tokens(c, client_ids=None),
    "enrollments": lambda c: enrollments.list_enrollments(c, client_ids=None),
    "enrollments that wait": lambda c: enrollments.list_enrollments(c, client_ids=None, state=EnrollmentState.WAITING),
    "enrollments by a token": lambda c: enrollments.list_enrollments(c, client_ids=None, token_id=AGENT),
    "api keys": lambda c: api_keys.list_api_keys(c, client_ids=None),
    "api keys of a user": lambda c: api_keys.list_api_keys(c, client_ids=None, owner_id=AGENT),
    "users": users.list_users,
    "users of a kind": lambda c: users.list_users(c, kind=UserKind.SERVICE),
    "roles": roles.list_roles,
    "requests": lambda c: approvals.list_approvals(c, client_ids=None, requester="key:x"),
    "requests that wait": lambda c: approvals.list_approvals(
        c, client_ids=None, requester="key:x", state=ApprovalState.WAITING
    ),
    "secrets": lambda c: secrets.list_secrets(c, client_ids=None),
    "destinations": destinations.list_destinations,
    "views": lambda c: views.list_views(c, owner="user:7", client_ids=FEW, limit=50),
    "fields": lambda c: fields.list_fields(c, limit=50),
    "expired": lambda c: pending.expired(c, NOW + timedelta(days=60), 100),
}
FOUND: dict[str, Query] = {
    "a client": lambda c: clients.get_client(c, CLIENT, client_ids=FEW),
    "a site": lambda c: clients.get_site(c, SITE, client_ids=FEW),
    "an agent": lambda c: agents.get_agent(c, AGENT, client_ids=FEW),
    "an agent with its facts": lambda c: agents.get_agent_detail(c, AGENT, client_ids=FEW),
    "an agent by key": lambda c: agents.agent_of_key(c, "key77"),
    "agents of tenants": lambda c: agents.list_agents(c, client_ids=FEW),
    "agents with a rare tag": lambda c: agents.list_agents(c, client_ids=None, tags=("rare",)),
    "agents of a rare system": lambda c: agents.list_agents(c, client_ids=None, os="rare"),
    "agents of a rare system, heard of last": lambda c: agents.list_agents(c, client_ids=None, os="rare", sort="-seen"),
    "agents of a rare system, counted": lambda c: agents.count_agents(c, client_ids=None, os="rare"),
    "agents with something rare": lambda c: agents.list_agents(c, client_ids=None, software="rare"),
    "agents on which something fails": lambda c: agents.list_agents(c, client_ids=None, failing=1),
    "agents on which something fails, counted": lambda c: agents.count_agents(c, client_ids=None, failing=1),
    "agents by what fails": lambda c: agents.list_agents(c, client_ids=None, sort="-failing"),
    "agents on which a check finds something": lambda c: agents.list_agents(c, client_ids=None, named_check="c7"),
    "what checks find on a machine": lambda c: checks.findings_on(c, UUID(int=7)),
    "machines on which a check finds something": lambda c: checks.list_machines(c, UUID(int=7), client_ids=None),
    "how many checks find what": lambda c: checks.count_found(c, [UUID(int=7)], client_ids=None),
    "agents with something rare, counted": lambda c: agents.count_agents(c, client_ids=None, software="rare"),
    "agents with updates": lambda c: agents.list_agents(c, client_ids=None, updates=1),
    "agents with updates, counted": lambda c: agents.count_agents(c, client_ids=None, updates=1),
    "agents that wait for a restart": lambda c: agents.list_agents(c, client_ids=None, reboot_needed=True),
    "agents that wait for a restart, counted": lambda c: agents.count_agents(c, client_ids=None, reboot_needed=True),
    "agents by text": lambda c: agents.list_agents(c, client_ids=None, text="a1234"),
    "agents of clients, counted": lambda c: agents.count_at_clients(c, [CLIENT], client_ids=None),
    "agents of sites, counted": lambda c: agents.count_at_sites(c, [SITE], client_ids=FEW),
    "all agents, counted": lambda c: agents.count_agents(c, client_ids=None),
    "all agents that are kept, counted": lambda c: agents.count_agents(c, client_ids=None, retired=False),
    "agents of a site, counted by state": lambda c: agents.count_agents(c, client_ids=None, site_id=SITE),
    "a queue": lambda c: pending.list_pending(c, AGENT, client_ids=None),
    "a script": lambda c: scripts.get_script(c, CLIENT, client_ids=None),
    "a revision": lambda c: scripts.get_revision(c, CLIENT, 1, client_ids=None),
    "a command": lambda c: commands.get_command(c, AGENT, client_ids=FEW),
    "commands of tenants": lambda c: commands.list_commands(c, client_ids=FEW),
    "a rollout": lambda c: rollouts.get_rollout(c, CLIENT, client_ids=FEW),
    "counts of a rollout": lambda c: rollouts.count_states(c, CLIENT),
    "pace of a rollout": lambda c: rollouts.count_recent(c, CLIENT, since=NOW, until=NOW + timedelta(minutes=5)),
    "sites of a rollout": lambda c: rollouts.list_sites(c, CLIENT),
    "outcomes of a rollout": lambda c: rollouts.list_outcomes(c, CLIENT),
    "what moves rollouts on": lambda c: _moving(RolloutReader(lambda: nullcontext(c))),
    "who joins rollouts": lambda c: _joining(RolloutReader(lambda: nullcontext(c))),
    "a destination": lambda c: destinations.get_destination(c, AGENT),
    "a secret": lambda c: secrets.get_secret(c, AGENT, client_ids=None),
    "secrets of tenants": lambda c: secrets.list_secrets(c, client_ids=FEW),
    "a view": lambda c: views.get_view(c, AGENT, owner="user:7", client_ids=FEW),
    "a field": lambda c: fields.get_field(c, AGENT),
    "what is filled in": lambda c: fields.get_filled(c, AGENT),
    "a token": lambda c: tokens.get_token(c, AGENT, client_ids=None),
    "an enrollment": lambda c: enrollments.get_enrollment(c, AGENT, client_ids=None),
    "enrollments of sites": lambda c: enrollments.list_enrollments(c, client_ids=SITES),
    "enrollments counted": lambda c: enrollments.counting(lambda: nullcontext(c))(AGENT, CLIENT),
    "enrollments that are due": lambda c: enrollments.due(c, NOW, 100),
    "who is no agent of sites": lambda c: enrollments.not_agents_at(c, [SITE]),
    "api keys by their beginning": lambda c: api_keys.list_api_keys(c, client_ids=None, between=(AGENT, AGENT)),
    "an api key": lambda c: api_keys.get_api_key(c, AGENT, client_ids=None),
    "a user": lambda c: users.get_user(c, AGENT),
    "a request": lambda c: approvals.get_approval(c, AGENT, client_ids=FEW, requester="key:x"),
    "requests that are due": lambda c: approvals.due(c, NOW, 100),
    "a role": lambda c: roles.get_role(c, AGENT),
    "names of roles": lambda c: roles.names_of(c, [AGENT, CLIENT]),
    "a site's agents": lambda c: agents.agents_at(c, [SITE]),
    "agents of sites": lambda c: agents.list_agents(c, client_ids=SITES),
    "commands of sites": lambda c: commands.list_commands(c, client_ids=SITES),
    "a command of sites": lambda c: commands.get_command(c, AGENT, client_ids=SITES),
    "a queue of sites": lambda c: pending.list_pending(c, AGENT, client_ids=SITES),
    "rollouts of sites": lambda c: rollouts.list_rollouts(c, client_ids=SITES),
    "tokens of sites": lambda c: tokens.list_tokens(c, client_ids=SITES),
    "what is deliverable": lambda c: deliverable(c, [UUID(int=n) for n in range(50)], now=NOW, window=50),
    "hours waited for": pending.hours_waited_for,
    "agents in hours": lambda c: pending.agents_in_hours(c, ["night"]),
    "counts of some": lambda c: pending.counts(c, [UUID(int=n) for n in range(50)]),
    "what some are taken to have": lambda c: pending.held(c, [UUID(int=n) for n in range(50)]),
    "agents due": lambda c: pending.agents_due(c, since=NOW, now=NOW + timedelta(seconds=1)),
    "agents with pending": lambda c: pending.agents_with_pending(c, AGENT, 100),
    "who wants something": lambda c: c.execute("SELECT * FROM fleetlog.wanting(%s, %s, '{}')", [[AGENT], NOW]),
    "what is open of some": lambda c: pending.open_of(c, [UUID(int=n) for n in range(50)], 100),
    "agents with something new": lambda c: pending.agents_with_new(c, 20_000_000),
}


async def _moving(reader: RolloutReader) -> None:
    assert len(await reader.running()) == 6
    await reader.tally(CLIENT, NOW)
    await reader.failed(CLIENT)
    assert not await reader.others_run(AGENT, "", NOW)
    assert await reader.to_take_back(100)


async def _joining(reader: RolloutReader) -> None:
    everybody = Target(include=Selector(everything=True, filter="facts.os_id = 'debian'"))
    joins = Joins(until=NOW, after=0)
    await reader.joined(everybody, joins, after=19_900, until=None, limit=100)


@pytest.fixture
async def explained(conninfo: str, admin: psycopg.Connection[Any]) -> AsyncIterator[Reader]:
    admin.execute(_FILL)
    admin.execute("VACUUM ANALYZE")
    ExplainingCursor.plans = []
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
        connection.cursor_factory = ExplainingCursor
        yield connection


async def test_hot_queries_read_no_table_from_end_to_end(explained: Reader) -> None:
    """On filled tables every list, lookup and queue goes by an index; paged lists need no sort either."""
    for name, query in (PAGED | FOUND).items():
        ExplainingCursor.plans.clear()
        await query(explained)
        assert ExplainingCursor.plans, name
        for plan in ExplainingCursor.plans:
            assert tables_scanned(plan) - {TRACKING} == set(), name
            assert name not in PAGED or not sorts(plan), name
    # The check itself sees a table that is read whole.
    await explained.cursor().execute("SELECT * FROM agents WHERE arch = 'none'")
    assert tables_scanned(ExplainingCursor.plans[-1]) == {"agents"}
