"""Intents become events, once, by those who may ask for them."""

import asyncio
from uuid import UUID

import pytest
from msgspec import structs

from command_bus.authenticating import Authenticator
from command_bus.bus import CommandBus
from command_bus.context import Caller
from command_bus.errors import ForbiddenError, UnauthenticatedError
from command_bus.event_log import Selection
from command_bus.ids import new_id
from command_bus.intents.agents import MoveAgent, RenameAgent, RetireAgent, SuspendAgent, TagAgent
from command_bus.intents.api_keys import CreateApiKey, RevokeApiKey
from command_bus.intents.clients import CreateClient, CreateSite, RenameClient
from command_bus.intents.commands import CancelCommand, Ping, QueueCommand, RunScript
from command_bus.intents.grants import Grant as Wanted
from command_bus.intents.scripts import ArchiveScript, CreateScript, ReviseScript, ScriptContent
from command_bus.intents.users import CreateUser, DisableUser, EnableUser
from command_bus.postgres_log import PostgresEventLog
from domain import errors
from domain.access import Access
from domain.roles import Role
from domain.scopes import Scope
from domain.scripts import Shell
from tests.command_bus.conftest import Clock, Dispatch, Fleet


async def test_an_accepted_intent_is_on_record_with_its_cause(
    dispatch: Dispatch, log: PostgresEventLog, caller: Caller
) -> None:
    """Each event says who asked for it, and in the course of what."""
    done = await dispatch(CreateClient(name="Acme"))
    created = (await log.read(Selection(types=("ClientCreated",))))[0]
    assert created.originator_id == UUID(done.answer["id"])
    assert (created.actor, created.correlation_id) == (caller.actor, caller.correlation_id)
    assert done.position == await log.head()


async def test_names_are_unique_whoever_is_quicker(dispatch: Dispatch) -> None:
    """Of many who want one name at the same time, one gets it; the others are told."""
    outcomes = await asyncio.gather(
        *(dispatch(CreateClient(name=name)) for name in ("Acme", "ACME", "acme ", "Acme")), return_exceptions=True
    )
    assert sum(not isinstance(outcome, BaseException) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, errors.NameTakenError) for outcome in outcomes) == 3


async def test_a_released_name_is_free_again(dispatch: Dispatch) -> None:
    """Renaming gives the old name back."""
    done = await dispatch(CreateClient(name="Acme"))
    await dispatch(RenameClient(client_id=UUID(done.answer["id"]), name="Acme Ltd"))
    await dispatch(CreateClient(name="Acme"))
    with pytest.raises(errors.NameTakenError):
        await dispatch(RenameClient(client_id=UUID(done.answer["id"]), name="ACME"))


async def test_an_idempotency_key_is_one_event_even_at_the_same_moment(
    bus: CommandBus, caller: Caller, log: PostgresEventLog
) -> None:
    """Ten concurrent requests with one key are done once, and all are told the same."""
    keyed = structs.replace(caller, idempotency_key="k1")
    outcomes = await asyncio.gather(*(bus.dispatch(CreateClient(name="Acme"), keyed) for _ in range(10)))
    assert len({outcome.answer["id"] for outcome in outcomes}) == 1
    assert sum(not outcome.repeated for outcome in outcomes) == 1
    assert len(await log.read(Selection(types=("ClientCreated",)))) == 1
    with pytest.raises(errors.IdempotencyMismatchError):
        await bus.dispatch(CreateClient(name="Other"), keyed)
    other = structs.replace(keyed, actor="key:somebody-else")
    assert not (await bus.dispatch(CreateClient(name="Other"), other)).repeated


async def test_a_secret_is_never_recorded(bus: CommandBus, caller: Caller, log: PostgresEventLog) -> None:
    """The text of a key is told once; neither the events nor a repeat hold it."""
    keyed = structs.replace(caller, idempotency_key="k1")
    first = await bus.dispatch(CreateApiKey(name="ci"), keyed)
    again = await bus.dispatch(CreateApiKey(name="ci"), keyed)
    assert first.answer["key"].startswith("flk_")
    assert "key" not in again.answer
    secret = first.answer["key"].split("_", 2)[2]
    assert all(secret not in repr(recorded) for recorded in await log.read())


async def test_an_update_of_a_stale_version_is_refused(bus: CommandBus, caller: Caller, fleet: Fleet) -> None:
    """If-Match: who has not seen the last change does not overwrite it."""
    first = structs.replace(caller, if_match=1)
    await bus.dispatch(RenameClient(client_id=fleet.client_id, name="One"), first)
    with pytest.raises(errors.StaleVersionError):
        await bus.dispatch(RenameClient(client_id=fleet.client_id, name="Two"), first)


async def test_of_two_updates_of_one_version_one_wins(bus: CommandBus, caller: Caller, fleet: Fleet) -> None:
    """Concurrent updates that both name the version they saw cannot both happen."""
    agent_id = await fleet.agent()
    matched = structs.replace(caller, if_match=1)
    outcomes = await asyncio.gather(
        *(bus.dispatch(TagAgent(agent_id=agent_id, tags=[f"t{i}"]), matched) for i in range(8)), return_exceptions=True
    )
    assert sum(isinstance(outcome, errors.StaleVersionError) for outcome in outcomes) == 7


async def test_roles_are_kept(bus: CommandBus, caller: Caller, fleet: Fleet, log: PostgresEventLog) -> None:
    """An auditor changes nothing; an operator does not administer."""
    head = await log.head()
    agent_id = fleet.site_id
    with pytest.raises(ForbiddenError):
        await bus.dispatch(CreateClient(name="x"), structs.replace(caller, access=Access.as_role(Role.OPERATOR)))
    with pytest.raises(ForbiddenError):
        await bus.dispatch(
            RenameAgent(agent_id=agent_id, name="x"), structs.replace(caller, access=Access.as_role(Role.AUDITOR))
        )
    assert await log.head() == head


async def test_a_tenants_key_reaches_its_own_alone(bus: CommandBus, caller: Caller, fleet: Fleet) -> None:
    """Invariant 8 for writes: another tenant's things do not exist."""
    other = UUID((await bus.dispatch(CreateClient(name="Other"), caller)).answer["id"])
    other_site = UUID((await bus.dispatch(CreateSite(client_id=other, name="Main"), caller)).answer["id"])
    agent_id = await fleet.agent()
    stranger = structs.replace(caller, access=Access.as_role(Role.ADMIN, Scope.of([other])))
    friend = structs.replace(caller, access=Access.as_role(Role.ADMIN, Scope.of([fleet.client_id])))
    queued = await bus.dispatch(QueueCommand(agent_id=agent_id, spec=Ping()), friend)
    refused = [
        QueueCommand(agent_id=agent_id, spec=Ping()),
        CancelCommand(command_id=UUID(queued.answer["id"])),
        RenameAgent(agent_id=agent_id, name="mine"),
        SuspendAgent(agent_id=agent_id),
        RetireAgent(agent_id=agent_id),
        MoveAgent(agent_id=agent_id, site_id=other_site),
        RenameClient(client_id=fleet.client_id, name="mine"),
        CreateSite(client_id=fleet.client_id, name="mine"),
    ]
    for intent in refused:
        with pytest.raises(errors.NotFoundError):
            await bus.dispatch(intent, stranger)
    with pytest.raises(errors.NotFoundError):
        await bus.dispatch(MoveAgent(agent_id=agent_id, site_id=other_site), friend)
    with pytest.raises(ForbiddenError):
        await bus.dispatch(CreateClient(name="Third"), friend)


async def test_a_script_is_pinned_when_it_is_queued(dispatch: Dispatch, fleet: Fleet, log: PostgresEventLog) -> None:
    """A later revision does not change what was queued before."""
    agent_id = await fleet.agent()
    content = ScriptContent(shell=Shell.SH, body="echo 1")
    script_id = UUID((await dispatch(CreateScript(name="s", content=content))).answer["id"])
    spec = RunScript(script_id=script_id)
    await dispatch(QueueCommand(agent_id=agent_id, spec=spec))
    await dispatch(ReviseScript(script_id=script_id, content=ScriptContent(shell=Shell.SH, body="echo 2")))
    await dispatch(QueueCommand(agent_id=agent_id, spec=spec))
    queued = await log.read(Selection(types=("CommandQueued",)))
    assert [recorded.event.spec.revision for recorded in queued] == [1, 2]  # type: ignore[attr-defined]
    await dispatch(ArchiveScript(script_id=script_id))
    with pytest.raises(errors.ScriptArchivedError):
        await dispatch(QueueCommand(agent_id=agent_id, spec=spec))


@pytest.mark.parametrize(
    ("case", "error"),
    [
        ("unknown agent", errors.NotFoundError),
        ("a site for an agent", errors.NotFoundError),
        ("retired", errors.AgentRetiredError),
        ("suspended", errors.AgentSuspendedError),
        ("unknown script", errors.NotFoundError),
        ("unknown revision", errors.UnknownRevisionError),
        ("wrong platform", errors.WrongPlatformError),
        ("expired", errors.ExpiryInPastError),
    ],
)
async def test_bad_commands_change_nothing(
    case: str, error: type[Exception], dispatch: Dispatch, fleet: Fleet, log: PostgresEventLog, clock: Clock
) -> None:
    """Each kind of bad command has its own error, and leaves no event."""
    agent_id: UUID = await fleet.agent()
    content = ScriptContent(shell=Shell.POWERSHELL, body="Get-Date", platforms=["windows"])
    script_id = UUID((await dispatch(CreateScript(name="s", content=content))).answer["id"])
    if case == "retired":
        await dispatch(RetireAgent(agent_id=agent_id))
    if case == "suspended":
        await dispatch(SuspendAgent(agent_id=agent_id))
    intent = {
        "unknown agent": QueueCommand(agent_id=new_id(), spec=Ping()),
        "a site for an agent": QueueCommand(agent_id=fleet.site_id, spec=Ping()),
        "unknown script": QueueCommand(agent_id=agent_id, spec=RunScript(script_id=new_id())),
        "unknown revision": QueueCommand(agent_id=agent_id, spec=RunScript(script_id=script_id, revision=9)),
        "wrong platform": QueueCommand(agent_id=agent_id, spec=RunScript(script_id=script_id)),
        "expired": QueueCommand(agent_id=agent_id, spec=Ping(), expires_at=clock.now),
    }.get(case, QueueCommand(agent_id=agent_id, spec=Ping()))
    head = await log.head()
    with pytest.raises(error):
        await dispatch(intent)
    assert await log.head() == head


async def test_a_key_opens_until_it_is_revoked(dispatch: Dispatch, log: PostgresEventLog, clock: Clock) -> None:
    """The right secret opens; a wrong one, another's or a revoked one does not."""
    done = await dispatch(CreateApiKey(name="ci", role=Role.AUDITOR))
    key = done.answer["key"]
    authenticator = Authenticator(log)
    who = await authenticator.authenticate(key, clock.now)
    assert (who.access, who.actor) == (Access.as_role(Role.AUDITOR), f"key:{done.answer['id']}")
    for wrong in (
        key[:-1],
        key[:-1] + ("a" if key[-1] != "a" else "b"),
        "",
        "flk_",
        "x" * 300,
        key.replace("flk", "flt"),
    ):
        with pytest.raises(UnauthenticatedError):
            await authenticator.authenticate(wrong, clock.now)
    await dispatch(RevokeApiKey(key_id=UUID(done.answer["id"])))
    with pytest.raises(UnauthenticatedError):
        await Authenticator(log).authenticate(key, clock.now)


async def test_what_was_read_of_a_key_holds_until_the_log_tells(
    dispatch: Dispatch, log: PostgresEventLog, clock: Clock
) -> None:
    """Within the second for which it is believed, a change that is heard of holds at once, and streams are told."""
    ada = UUID((await dispatch(CreateUser(name="Ada", grants=[Wanted(role="operator", everything=True)]))).answer["id"])
    key = (await dispatch(CreateApiKey(name="k", owner_id=ada))).answer["key"]
    authenticator = Authenticator(log)
    before = await authenticator.authenticate(key, clock.now)
    told: list[str] = []
    with before.standing.telling(lambda: told.append("over")):
        authenticator.heard((await log.read_heads([ada]))[ada])  # late, of what was read already
        assert told == []
        await dispatch(DisableUser(user_id=ada))
        await authenticator.authenticate(key, clock.now)  # nobody told: it is believed still
        head = (await log.read_heads([ada]))[ada]
        authenticator.heard(head)
        assert told == ["over"]
    with pytest.raises(UnauthenticatedError):
        await authenticator.authenticate(key, clock.now)
    await dispatch(EnableUser(user_id=ada))
    authenticator.missed()
    assert (await authenticator.authenticate(key, clock.now)).user_id == ada
    assert list(authenticator.take_used().values()) == [clock.now]
