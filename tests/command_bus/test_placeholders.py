"""A rollout's placeholders stand for what they stand for on each machine, and who has nothing there is left out."""

from uuid import UUID

import pytest

from command_bus.intents.agents import MoveAgent
from command_bus.intents.clients import CreateClient, CreateSite
from command_bus.intents.commands import QueueCommand, RunShell
from command_bus.intents.fields import DefineField, FillAgentFields, Terms
from command_bus.intents.rollouts import PlanRollout
from command_bus.intents.secrets import RemoveSecret, SetSecret
from command_bus.repository import load
from domain import commands
from domain.commands import Command
from domain.errors import UnresolvedPlaceholderError
from domain.fields import FieldKind, Holder
from domain.rollouts import Rollout, command_id
from domain.scripts import Shell
from tests.command_bus.rolling import Rolling, rollout

LINE = RunShell(shell=Shell.SH, line="open {{field.port}} {{agent.id}} {{secret.db}}")
LINE_OF_ID = RunShell(shell=Shell.SH, line="greet {{agent.id}}")
LINE_OF_SECRET = RunShell(shell=Shell.SH, line="open {{secret.db}}")
HOSTILE = "{{secret.db}}'; rm -rf / #"


def secret(**scope: object) -> SetSecret:
    return SetSecret.model_validate({"name": "DB", "value": "hunter22", "scope": scope})


async def test_each_machine_gets_its_own_values(rolling: Rolling) -> None:
    """The plan names who has none, and the fan-out who has none any more; a value stays text, whatever it says."""
    one, two, none, lost = await rolling.agents(4)
    dispatch = rolling.fleet.dispatch
    await dispatch(DefineField(name="Port", terms=Terms(kind=FieldKind.TEXT, on=[Holder.AGENT, Holder.SITE])))
    await dispatch(secret(kind="site", site_id=rolling.fleet.site_id))
    await dispatch(FillAgentFields(agent_id=one, values={"port": HOSTILE}))
    for agent_id in (two, lost):
        await dispatch(FillAgentFields(agent_id=agent_id, values={"PORT": "8080"}))
    rolling.follow()
    plan = (await dispatch(rollout(PlanRollout, spec=LINE))).answer
    assert plan["excluded"] == {"unresolved_placeholder": 1}
    assert plan["left_out"] == [{"agent_id": str(none), "reason": "unresolved_placeholder"}]
    rollout_id = await rolling.start(spec=LINE)
    await dispatch(FillAgentFields(agent_id=lost, values={"port": None}))
    await rolling.settle()
    started = await load(rolling.log, Rollout, rollout_id)
    assert (started.started.targeted, started.skipped) == (3, 1)
    found = {}
    for agent_id in (one, two, lost):
        command = await load(rolling.log, Command, command_id(rollout_id, agent_id, 1))
        if command.exists:
            spec = command.queued.spec
            assert isinstance(spec, commands.RunShell)
            assert spec.data is not None
            assert (spec.line, spec.data.secrets) == (LINE.line, ("db",))
            found[agent_id] = spec.data.given
    assert found == {
        one: {"agent.id": str(one), "field.port": HOSTILE},
        two: {"agent.id": str(two), "field.port": "8080"},
    }


async def test_who_has_no_secret_of_that_name_is_left_out(rolling: Rolling) -> None:
    """Of several machines those that have one get the command; one whose secret went since the start is passed over."""
    one, lost, none, moved = await rolling.agents(4)
    dispatch = rolling.fleet.dispatch
    own = {agent_id: await dispatch(secret(kind="agent", agent_id=agent_id)) for agent_id in (one, lost, moved)}
    client = await dispatch(CreateClient(name="Umbrella"))
    site = await dispatch(CreateSite(client_id=UUID(client.answer["id"]), name="Hive"))
    await dispatch(MoveAgent(agent_id=moved, site_id=UUID(site.answer["id"])))
    rolling.follow()
    plan = (await dispatch(rollout(PlanRollout, spec=LINE_OF_SECRET))).answer
    assert plan["excluded"] == {"unresolved_placeholder": 2}
    assert {left["agent_id"] for left in plan["left_out"]} == {str(none), str(moved)}
    with pytest.raises(UnresolvedPlaceholderError, match="secret"):
        await dispatch(QueueCommand(agent_id=moved, spec=LINE_OF_SECRET))
    rollout_id = await rolling.start(spec=LINE_OF_SECRET)
    await dispatch(RemoveSecret(secret_id=UUID(own[lost].answer["id"])))
    await rolling.settle()
    started = await rolling.story(rollout_id)
    assert (started.started.targeted, started.skipped) == (2, 1)
    assert (await load(rolling.log, Command, command_id(rollout_id, one, 1))).exists
    # What the client has is enough, as for its machines to come.
    await dispatch(secret(kind="client", client_id=rolling.fleet.client_id))
    plan = (await dispatch(rollout(PlanRollout, spec=LINE_OF_SECRET))).answer
    assert plan["left_out"] == [{"agent_id": str(moved), "reason": "unresolved_placeholder"}]


async def test_what_is_personal_is_opened_where_a_command_asks_for_it(rolling: Rolling) -> None:
    """A name goes into the command as it is; a command that asks for no name has nothing of it."""
    (agent_id,) = await rolling.agents(1)
    named = RunShell(shell=Shell.SH, line="greet {{agent.hostname}}")
    for spec, given in ((named, {"agent.hostname": "h"}), (LINE_OF_ID, {"agent.id": str(agent_id)})):
        rollout_id = await rolling.start(spec=spec)
        await rolling.settle()
        command = await load(rolling.log, Command, command_id(rollout_id, agent_id, 1))
        assert isinstance(command.queued.spec, commands.RunShell)
        assert command.queued.spec.data is not None
        assert command.queued.spec.data.given == given
