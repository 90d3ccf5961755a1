"""In whose name a rollout goes on, and who may have it go on."""

from typing import Any
from uuid import UUID

import pytest

from command_bus.bus import CommandBus, Intent
from command_bus.context import Caller, Freshness
from command_bus.errors import ForbiddenError, FreshProofNeededError
from command_bus.ids import new_id
from command_bus.intents.commands import RotateKey, RunShell
from command_bus.intents.grants import Grant
from command_bus.intents.rollouts import PauseRollout, ReleaseRollout, ResumeRollout, Wave
from command_bus.intents.users import CreateUser, DisableUser
from command_bus.rollouts import WITHDRAWN
from domain.access import Access, Right
from domain.errors import TooManyAgentsError
from domain.ids import AgentId
from domain.permissions import Permission
from domain.roles import Limits, Role, Terms
from domain.rollouts import RolloutState, command_id
from domain.scopes import EVERYTHING
from domain.scripts import Shell
from tests.command_bus.rolling import Rolling, rollout

LINE = RunShell(shell=Shell.SH, line="true")
HELPDESK = Access.as_role(Role.HELPDESK)


def caller(user_id: UUID, **more: Any) -> Caller:
    return Caller(actor=f"user:{user_id}", correlation_id=new_id(), **more)


async def user(rolling: Rolling, name: str) -> UUID:
    done = await rolling.fleet.dispatch(CreateUser(name=name, grants=[Grant(role="operator", everything=True)]))
    return UUID(done.answer["id"])


async def started(rolling: Rolling, bus: CommandBus, who: UUID, **more: Any) -> UUID:
    done = await bus.dispatch(rollout(**more), caller(who))
    rolling.follow()
    await rolling.settle()
    return UUID(done.answer["id"])


async def queued_by(rolling: Rolling, rollout_id: UUID, agents: list[AgentId]) -> list[str]:
    """Who is behind the commands that there are."""
    ids = [command_id(rollout_id, agent_id, 1) for agent_id in agents]
    streams = await rolling.log.read_streams(ids)
    return sorted(recorded[0].actor for recorded in streams.values())


async def test_it_stops_once_whoever_had_it_go_on_may_no_longer(rolling: Rolling, bus: CommandBus) -> None:
    """The wave that was not released yet gets no command; somebody else has it go on, and answers for what follows."""
    agents = await rolling.agents(6)
    ada, bob = [await user(rolling, name) for name in ("Ada", "Bob")]
    rollout_id = await started(rolling, bus, ada, spec=LINE, waves=[Wave(count=2, manual=True)])
    await rolling.fleet.dispatch(DisableUser(user_id=ada))
    await bus.dispatch(ReleaseRollout(rollout_id=rollout_id), caller(bob))
    rolling.follow()
    # What was read of her is believed for a second of the server's clock.
    rolling.fan_out = rolling.another()
    await rolling.settle()
    story = await rolling.story(rollout_id)
    assert (story.state, story.cursor) == (RolloutState.PAUSED, 2)
    (last,) = (await rolling.log.read_heads([rollout_id])).values()
    assert (last.actor, getattr(last.event, "reason", "")) == ("scheduler", WITHDRAWN)
    await bus.dispatch(ResumeRollout(rollout_id=rollout_id), caller(bob))
    rolling.follow()
    await rolling.settle()
    assert await queued_by(rolling, rollout_id, agents) == sorted([f"user:{ada}"] * 2 + [f"user:{bob}"] * 4)


async def test_who_might_not_start_it_does_not_have_it_go_on(rolling: Rolling, bus: CommandBus) -> None:
    """To stop one takes less than to have it go on: its kind of command, a fresh proof, and so many agents."""
    await rolling.agents(6)
    ada = await user(rolling, "Ada")
    lines = await started(rolling, bus, ada, spec=LINE, waves=[Wave(count=2, manual=True)])
    keys = await started(rolling, bus, ada, spec=RotateKey(), lane="system", waves=[Wave(count=2, manual=True)])
    few = Access((Right(Terms(frozenset(Permission), Limits(max_agents=3)), EVERYTHING),))
    stale = Freshness(proved=False, agents=100)

    async def refused(intent: Intent, error: type[Exception], **more: Any) -> None:
        with pytest.raises(error):
            await bus.dispatch(intent, caller(ada, **more))

    for rollout_id in (lines, keys):
        await refused(ReleaseRollout(rollout_id=rollout_id), ForbiddenError, access=HELPDESK)
        await refused(ReleaseRollout(rollout_id=rollout_id), TooManyAgentsError, access=few)
        await bus.dispatch(PauseRollout(rollout_id=rollout_id), caller(ada, access=HELPDESK))
        await refused(ResumeRollout(rollout_id=rollout_id), ForbiddenError, access=HELPDESK)
        await refused(ResumeRollout(rollout_id=rollout_id), TooManyAgentsError, access=few)
    await refused(ResumeRollout(rollout_id=keys), FreshProofNeededError, freshness=stale)
    await bus.dispatch(ResumeRollout(rollout_id=lines), caller(ada, freshness=stale))
    assert (await rolling.story(lines)).state is RolloutState.RUNNING
