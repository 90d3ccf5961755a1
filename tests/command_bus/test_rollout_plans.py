"""Whom a rollout means, and what is said of it before it starts."""

from typing import Any
from uuid import UUID

import pytest

from command_bus.bus import CommandBus
from command_bus.context import Caller
from command_bus.ids import new_id
from command_bus.intents.agents import SuspendAgent
from command_bus.intents.clients import CreateClient
from command_bus.intents.commands import RunShell
from command_bus.intents.rollouts import (
    AbortRollout,
    Exclude,
    Include,
    PauseRollout,
    PlanRollout,
    ReleaseRollout,
    ResumeRollout,
    RetryRollout,
    Target,
    Wave,
)
from command_bus.repository import load
from domain.access import Access
from domain.agents import (
    Agent,
    AgentConnected,
    AgentFactsReported,
    Platform,
)
from domain.errors import EmptyRolloutError, InvalidFilterError, NotFoundError
from domain.event import Metadata
from domain.ids import ClientId
from domain.roles import Role
from domain.scopes import Scope
from domain.scripts import Shell
from tests.command_bus.conftest import Dispatch
from tests.command_bus.rolling import (
    Rolling,
    rollout,
)


async def test_a_plan_says_who_and_why_not_and_starts_nothing(rolling: Rolling) -> None:
    """Who is excluded, unfit or away is named with the reason."""
    linux = await rolling.agents(3)
    windows = await rolling.agents(2, Platform.WINDOWS)
    await rolling.fleet.dispatch(SuspendAgent(agent_id=linux[0]))
    rolling.follow()
    before = await rolling.log.head()
    done = await rolling.fleet.dispatch(
        rollout(
            PlanRollout,
            spec=RunShell(shell=Shell.CMD, line="ver"),
            target=Target(include=Include(clients=[rolling.fleet.client_id]), exclude=Exclude(agents=[windows[0]])),
            waves=[Wave(count=1)],
        )
    )
    assert done.answer["targeted"] == 1
    assert done.answer["waves"] == [1]
    assert done.answer["agents"] == [str(windows[1])]
    assert done.answer["excluded"] == {"excluded": 1, "suspended": 1, "wrong_platform": 2}
    assert {(one["agent_id"], one["reason"]) for one in done.answer["left_out"]} == {
        (str(windows[0]), "excluded"),
        (str(linux[0]), "suspended"),
        (str(linux[1]), "wrong_platform"),
        (str(linux[2]), "wrong_platform"),
    }
    assert await rolling.log.head() == before


async def test_a_plan_tells_a_mistake_from_a_wish(rolling: Rolling) -> None:
    """Each reason is counted; who is left out since it does not tell what was asked comes before who is not meant."""
    agents = [*await rolling.agents(4), *await rolling.agents(1, Platform.WINDOWS)]
    for agent_id, facts in (
        (agents[0], {"machine_type": "server", "os_version": "12"}),
        (agents[1], {"machine_type": "server", "os_version": "9"}),
        (agents[2], {"machine_type": "server"}),
        (agents[3], {"machine_type": "toaster", "os_version": "12"}),
    ):
        await rolling.tell(agent_id, AgentFactsReported(facts=facts))
    include = Include(everything=True, platforms=["linux"], machine_types=["server"], filter="facts.os_version >= '10'")
    done = await rolling.fleet.dispatch(rollout(PlanRollout, target=Target(include=include)))
    assert done.answer["agents"] == [str(agents[0])]
    assert done.answer["excluded"] == {
        "filter_not_met": 1,
        "filter_unknown": 1,
        "machine_type_unknown": 1,
        "other_platform": 1,
    }
    reasons = [one["reason"] for one in done.answer["left_out"]]
    assert set(reasons[:2]) == {"filter_unknown", "machine_type_unknown"}
    assert set(reasons[2:]) == {"filter_not_met", "other_platform"}


@pytest.mark.parametrize(
    ("include", "exclude", "found"),
    [
        ({"everything": True}, {}, {0, 1, 2}),
        ({"everything": True, "platforms": ["windows"]}, {}, {2}),
        ({"everything": True, "online": True}, {}, {1}),
        ({"everything": True, "online": False}, {}, {0, 2}),
        ({"everything": True}, {"platforms": ["linux"]}, {2}),
        ({"everything": True}, {"online": False}, {1}),
        ({"everything": True}, {"online": True}, {0, 2}),
        ({"agents": [0, 2]}, {}, {0, 2}),
        ({"agents": [0, 2]}, {"agents": [0]}, {2}),
        ({"sites": ["site"], "platforms": ["linux"]}, {}, {0, 1}),
        ({"clients": ["client"]}, {"sites": ["site"]}, set()),
        ({"tags": ["web"], "agents": [2]}, {}, {0, 2}),
        ({"everything": True}, {"tags": ["web", "db"]}, {1, 2}),
        ({"everything": True, "machine_types": ["server"]}, {}, {0}),
        ({"everything": True, "machine_types": ["server", "workstation"]}, {}, {0, 2}),
        ({"everything": True}, {"machine_types": ["workstation"]}, {0, 1}),
        ({"everything": True, "filter": "facts.memory_bytes > 4e9"}, {}, {0}),
        ({"everything": True, "filter": "not facts.memory_bytes > 4e9"}, {}, {2}),
        ({"everything": True, "filter": "has facts.users"}, {"filter": "facts.users = 'bob'"}, {2}),
        ({"tags": ["web"], "filter": "facts.users = 'bob'; DROP TABLE agents"}, {}, None),
    ],
)
async def test_who_is_meant(
    rolling: Rolling, include: dict[str, Any], exclude: dict[str, Any], found: set[int] | None
) -> None:
    """Named lists add up, all else narrows down, and any match excludes."""
    agents = [*await rolling.agents(2), *await rolling.agents(1, Platform.WINDOWS)]
    tagged = await load(rolling.log, Agent, agents[0])
    await rolling.log.append([tagged.tag(["web"])], Metadata(actor="system", correlation_id=new_id()))
    server = {"machine_type": "server", "memory_bytes": 8_000_000_000, "users": ["alice", "bob"]}
    await rolling.tell(agents[0], AgentFactsReported(facts=server))
    desktop = {"machine_type": "workstation", "memory_bytes": 2_000_000_000, "users": []}
    await rolling.tell(agents[2], AgentFactsReported(facts=desktop))
    await rolling.tell(agents[1], AgentConnected(gateway="g"))
    rolling.follow()
    named = {"site": rolling.fleet.site_id, "client": rolling.fleet.client_id} | dict(enumerate(agents))

    def with_ids(given: dict[str, Any]) -> dict[str, Any]:
        return {
            key: [named[one] for one in value] if key in ("clients", "sites", "agents") else value
            for key, value in given.items()
        }

    target = Target(include=Include(**with_ids(include)), exclude=Exclude(**with_ids(exclude)))
    if found is None:
        with pytest.raises(InvalidFilterError, match="at 20"):
            await rolling.fleet.dispatch(rollout(PlanRollout, target=target))
        return
    done = await rolling.fleet.dispatch(rollout(PlanRollout, target=target))
    assert {UUID(one) for one in done.answer["agents"]} == {agents[i] for i in found}


async def test_only_who_the_caller_sees_is_meant(rolling: Rolling, bus: CommandBus, dispatch: Dispatch) -> None:
    """Everything is everything of one's own; others' things, and rollouts that reach them, do not exist."""
    mine = await rolling.agents(2)
    rollout_id = await rolling.start()
    other = ClientId(UUID((await dispatch(CreateClient(name="Globex"))).answer["id"]))
    rolling.follow()
    stranger = Caller(actor="key:b", access=Access.as_role(Role.OPERATOR, Scope.of([other])), correlation_id=new_id())
    with pytest.raises(EmptyRolloutError):
        await bus.dispatch(rollout(), stranger)
    for included in ({"agents": mine}, {"clients": [rolling.fleet.client_id]}, {"sites": [rolling.fleet.site_id]}):
        with pytest.raises(NotFoundError):
            await bus.dispatch(rollout(target=Target(include=Include(**included))), stranger)
    for intent in (PauseRollout, ResumeRollout, ReleaseRollout, AbortRollout, RetryRollout):
        with pytest.raises(NotFoundError):
            await bus.dispatch(intent(rollout_id=rollout_id), stranger)
