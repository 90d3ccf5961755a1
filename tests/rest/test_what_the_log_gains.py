"""Whatever is done is on record: each write of the API, and what agents, gateways and the scheduler do.

A route without a row in a table fails here, and so does an event type that no table brings about.
"""

from pathlib import Path
from typing import Any

import pytest

from domain.catalog import EVENTS
from gateways.rest.openapi import build_document
from gateways.rest.route import API
from gateways.rest.routes import ROUTES
from tests.rest.deeds import DEEDS
from tests.rest.gains import ALL, GAINS, VARIANTS, Ground, Row
from tests.rest.harness import Api, Fleet, made
from tests.rest.own_gains import NOTHING, OWN, SSO
from tests.rest.people import SECOND, Person
from tests.rest.provider import RunningProvider
from tests.rest.sso import api, provider, running

__all__ = ["api", "provider", "running"]

ROWS = GAINS | OWN | SSO
ELSEWHERE = {
    "AgentCheckChanged": "tests/rest/test_checks.py",
    "AgentCheckEnded": "tests/rest/test_checks.py",
    "AgentRefused": "tests/rest/test_refused_and_counted.py",
    "AuthorityAnnounced": "tests/gateway/test_authorities.py",
    "AuthorityRetired": "tests/gateway/test_authorities.py",
    "AuthorityRolledOver": "tests/cli/test_on_record.py",
    "AuthorityUsed": "tests/gateway/test_authorities.py",
    "BackupBegun": "tests/cli/test_on_record.py",
    "CheckpointCountersigned": "tests/rest/test_audit.py",
    "CommandRequeued": "tests/gateway/test_delivery.py",
    "ExportBegun": "tests/cli/test_on_record.py",
    "LogRestored": "tests/backup/test_backup.py",
    "LoginLockedOut": "tests/rest/test_guesses.py",
    "LoginRefused": "tests/rest/test_sessions.py",
    "OutputRead": "tests/rest/test_reads_on_record.py",
    "OutputsErased": "tests/gateway/test_erased_outputs.py",
    "OutputsRemoved": "tests/gateway/test_retention.py",
    "ProjectionRebuilt": "tests/cli/test_on_record.py",
    "ProjectionResumed": "tests/cli/test_on_record.py",
    "RecoveryCodeUsed": "tests/rest/test_second_factor.py",
    "RefusalsCounted": "tests/rest/test_refused_and_counted.py",
    "RequestRefused": "tests/rest/test_refused_and_counted.py",
    "ReplayDropped": "tests/cli/test_replays.py",
    "ReplayMade": "tests/cli/test_replays.py",
    "RolloutGrown": "tests/command_bus/test_joining.py",
    "SchemaMigrated": "tests/cli/test_on_record.py",
    "SecretsRead": "tests/gateway/test_secrets.py",
    "SegmentArchived": "tests/cli/test_on_record.py",
    "StrayResultRecorded": "tests/gateway/test_restored.py",
    "UserGroupsApplied": "tests/rest/test_sso.py",
    "WrongKeysHeldBack": "tests/rest/test_auth.py",
}
"""What comes about in tests of its own: by the command line, by refusals, and by what goes wrong."""


@pytest.fixture
def terms() -> dict[str, Any]:
    """A second factor at the provider is enough."""
    return {"trusted_amr": frozenset({"mfa"})}


async def gained(ground: Ground, key: tuple[str, str], wanted: Row, actor: str) -> str:
    """Send a table's request; what differs from what it is to leave, and empty where nothing does."""
    method, path = key
    request = await wanted.make(ground)
    http = request.http or ground.http
    if request.http is None and actor.startswith("user:"):
        # Time moves on in these tests, and a session is asked for a fresh proof then.
        assert (await http.post("/session/proof", json={"password": SECOND})).is_success
    head = await ground.api.log.head()
    sent = {"data": request.body} if request.form else {"json": request.body}
    answer = await http.request(method, path.format(**request.ids), **sent)
    if not (answer.is_success if request.status is None else answer.status_code == request.status):
        return f"{method} {path}: {answer.status_code} {answer.text}"
    events = await ground.api.log.read(after=head)
    found = [type(one.event).__name__ for one in events]
    by, asked_as = {one.actor for one in events}, {str(one.correlation_id) for one in events}
    wrong = []
    if found != wanted.gains:
        wrong.append(f"gained {found}, not {wanted.gains}")
    if found and by != {request.actor or actor}:
        wrong.append(f"by {by}, not {request.actor or actor}")
    if found and asked_as != {answer.headers["X-Request-Id"]}:
        wrong.append(f"as {asked_as}, not {answer.headers['X-Request-Id']}")
    return f"{method} {path}: {'; '.join(wrong)}" if wrong else ""


def operations(document: dict[str, Any]) -> set[tuple[str, str]]:
    """All of a document that may change something."""
    return {
        (method.upper(), path.removeprefix(API))
        for path, by_method in document["paths"].items()
        for method in by_method
        if method in ("post", "put", "patch", "delete")
    }


def test_every_write_has_a_row() -> None:
    """By the OpenAPI document; and what leaves nothing has a reason."""
    assert set(ROWS) == operations(build_document(ROUTES))
    assert {path for (_, path), wanted in ROWS.items() if not wanted.gains} == set(NOTHING)


async def by_key(api: Api, fleet: Fleet) -> tuple[Any, str]:
    """A key of a person's: what takes a person is done with it, too."""
    user_id = (await made(fleet.http, "/users", {"name": "Ada", "grants": [ALL]}))["id"]
    key = await made(fleet.http, "/api-keys", {"name": "laptop", "owner_id": user_id, "unattended": True})
    return api.client(key["key"]), f"key:{key['id']}"


async def by_session(api: Api, _: Fleet) -> tuple[Any, str]:
    person = await Person.ready(api, "Ada", ALL)
    return person.http, f"user:{person.user_id}"


@pytest.mark.parametrize("by", [by_key, by_session])
async def test_every_write_is_on_record(api: Api, fleet: Fleet, provider: RunningProvider, by: Any) -> None:
    """As what it was, by whom, and under its request's id: with a key, and with a person's session."""
    http, actor = await by(api, fleet)
    ground = Ground(api, fleet, http, provider)
    found = [await gained(ground, key, wanted, actor) for key, wanted in [*GAINS.items(), *VARIANTS]]
    assert [one for one in found if one] == []


@pytest.mark.parametrize("table", [OWN, SSO], ids=["own", "sso"])
async def test_what_people_do_for_themselves_is_on_record(
    api: Api, fleet: Fleet, provider: RunningProvider, table: dict[tuple[str, str], Row]
) -> None:
    """Under their own name, whatever they come with."""
    ground = Ground(api, fleet, fleet.http, provider)
    found = [await gained(ground, key, wanted, "") for key, wanted in table.items()]
    assert [one for one in found if one] == []


async def test_what_nobody_asked_for_is_on_record(api: Api, fleet: Fleet, provider: RunningProvider) -> None:
    """What agents, gateways and the scheduler do, each under its name, with the request that it goes back to."""
    ground = Ground(api, fleet, fleet.http, provider)
    for deed in DEEDS:
        act = await deed.prepare(ground)
        head = await api.log.head()
        await act.run()
        events = await api.log.read(after=head)
        assert [type(one.event).__name__ for one in events] == deed.gains, deed.name
        by = deed.actor.format(agent_id=act.agent_id, asker=act.asker)
        assert {one.actor for one in events} == {by}, deed.name
        if act.correlation_id is not None:
            assert {one.correlation_id for one in events} == {act.correlation_id}, deed.name


def test_every_event_type_comes_about() -> None:
    """By a row of a table here, or elsewhere."""
    tables = [*ROWS.values(), *(wanted for _, wanted in VARIANTS), *DEEDS]
    assert set(EVENTS) - {name for one in tables for name in one.gains} == set(ELSEWHERE)
    assert [path for path in ELSEWHERE.values() if not Path(__file__).parents[2].joinpath(path).is_file()] == []
