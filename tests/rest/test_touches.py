"""A cap on one action is none on its first step only: agents that are touched one by one count together."""

import asyncio
from uuid import UUID, uuid4

import pytest

from command_bus.handlers import commands, limits
from command_bus.ids import new_id
from domain.roles import Role
from gateways.rest.touches import WINDOW_S, TouchCounts
from tests.rest.harness import Api, Fleet, made


class Seconds:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def counts_to(counts: TouchCounts, who: str, agents: list[UUID]) -> list[int]:
    return [await counts.touched(who, agent) for agent in agents]


@pytest.mark.parametrize("shared", [False, True])
async def test_different_agents_are_counted_for_an_hour(valkey_url: str, *, shared: bool) -> None:
    """The same one counts once, and whoever touches others counts for themselves."""
    seconds = Seconds()
    counts = TouchCounts(seconds, valkey_url if shared else None)
    who, agents = f"user:{new_id()}", [uuid4() for _ in range(4)]
    assert await counts_to(counts, who, [agents[0], agents[1], agents[0]]) == [1, 2, 2]
    assert await counts_to(counts, f"user:{new_id()}", [agents[2]]) == [1]
    if not shared:
        seconds.now = WINDOW_S - 1
        assert await counts_to(counts, who, [agents[1]]) == [2]
        seconds.now = WINDOW_S + 1
        assert await counts_to(counts, who, agents[2:]) == [2, 3]
    await counts.stop()


async def test_processes_count_together_and_alone_where_they_must(valkey_url: str) -> None:
    """Of many at once each has a number of its own, whichever process they are in; without Valkey each goes on."""
    one, other = TouchCounts(url=valkey_url), TouchCounts(url=valkey_url)
    who = f"user:{new_id()}"
    told = await asyncio.gather(*(process.touched(who, uuid4()) for process in (one, other) for _ in range(10)))
    assert sorted(told) == list(range(1, 21))
    alone = TouchCounts(url="redis://127.0.0.1:9")
    assert await counts_to(alone, who, [uuid4(), uuid4()]) == [1, 2]
    for process in (one, other, alone):
        await process.stop()


async def test_one_by_one_is_one_action(api: Api, fleet: Fleet) -> None:
    """Beyond what the role lets one action touch the next is refused, with its reason; who may do more goes on."""
    agents = [await fleet.agent(f"pc-{number}") for number in range(4)]
    role = {"permissions": ["agents.retire", "agents.suspend", "agents.see"], "limits": {"max_agents": 2}}
    await made(fleet.http, "/roles", {"name": "few", **role})
    few = api.client(await api.key_that_may(grants=[{"role": "few", "everything": True}]))
    assert (await few.post(f"/agents/{agents[0]}/suspend", json={})).is_success
    # What changes nothing, and the same agent once more, counts nothing more.
    assert (await few.post(f"/agents/{agents[0]}/suspend", json={})).status_code == 409
    assert (await few.post(f"/agents/{agents[0]}/retire", json={})).is_success
    assert (await few.post(f"/agents/{agents[1]}/retire", json={})).is_success
    head = await api.log.head()
    for agent in agents[2:]:
        refused = await few.post(f"/agents/{agent}/retire", json={})
        assert (refused.status_code, refused.json()["code"]) == (403, "too_many_agents"), refused.text
        assert "within an hour, one by one" in refused.json()["detail"]
    assert await api.done_since(head) == []
    admin = api.client(await api.key(Role.ADMIN))
    assert (await admin.post(f"/agents/{agents[2]}/retire", json={})).is_success


async def test_a_loop_of_commands_comes_to_an_end(api: Api, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs something counts, also by a retry; a ping does not, nor does one more for a machine that has been."""
    monkeypatch.setattr(limits, "BY_COMMANDS", 2)
    agents = [await fleet.agent(f"pc-{number}") for number in range(4)]
    script = (await made(fleet.http, "/scripts", {"name": "s", "content": {"shell": "sh", "body": "true"}}))["id"]
    run = {"kind": "run_script", "script_id": script}
    can = ["agents.see", "commands.see", "commands.queue", "commands.script"]
    await made(fleet.http, "/roles", {"name": "few", "permissions": can, "limits": {"max_agents": 1}})
    few = api.client(await api.key_that_may(grants=[{"role": "few", "everything": True}]))
    ended = await fleet.command(agents[3], spec=run)
    await fleet.finish(agents[3], ended, "failed")
    for agent in (*agents[:2], agents[0]):
        assert (await few.post("/commands", json={"agent_id": agent, "spec": run})).is_success
    for agent in agents:
        assert (await few.post("/commands", json={"agent_id": agent, "spec": {"kind": "ping"}})).is_success
    for path, body in (("/commands", {"agent_id": agents[2], "spec": run}), (f"/commands/{ended}/retry", {})):
        refused = await few.post(path, json=body)
        assert (refused.status_code, refused.json()["code"]) == (403, "too_many_agents"), refused.text


async def test_a_queue_has_an_end(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond what may wait for a machine nothing more is queued for it, until something has ended."""
    monkeypatch.setattr(commands, "MAX_WAITING", 2)
    agent = await fleet.agent()
    first, _ = [await fleet.command(agent) for _ in range(2)]
    ping = {"agent_id": agent, "spec": {"kind": "ping"}}
    refused = await fleet.http.post("/commands", json=ping)
    assert (refused.status_code, refused.json()["code"]) == (409, "queue_full")
    await fleet.finish(agent, first)
    assert (await fleet.http.post("/commands", json=ping)).is_success


async def test_above_some_it_waits_for_another(api: Api, fleet: Fleet) -> None:
    """The role's limit on what one may do alone counts them together, too; once allowed, it is done."""
    agents = [await fleet.agent(f"pc-{number}") for number in range(3)]
    role = {"permissions": ["agents.retire", "agents.see"], "limits": {"approval_above": 1}}
    await made(fleet.http, "/roles", {"name": "watched", **role})
    user = await made(fleet.http, "/users", {"name": "Ada", "grants": [{"role": "watched", "everything": True}]})
    # By the person, with however many keys.
    keys = [api.client(await api.key_that_may(owner_id=user["id"])) for _ in agents]
    assert (await keys[0].post(f"/agents/{agents[0]}/retire", json={})).is_success
    for key, agent in zip(keys[1:], agents[1:], strict=True):
        waits = await key.post(f"/agents/{agent}/retire", json={})
        assert (waits.status_code, waits.json()["code"]) == (409, "approval_awaited"), waits.text
