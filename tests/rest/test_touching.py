"""Whatever touches agents asks how many its caller may touch, or it is said here why it need not."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from command_bus.bus import Intent
from domain.permissions import Permission
from gateways.rest.routes import ROUTES
from tests.rest.harness import Api, Fleet, made
from tests.rest.test_permissions import PING
from tests.rest.test_rollouts import members, settle

NAMES = {"agent_id", "agents", "matching", "command_id", "command_ids", "rollout_id", "target"}
FAMILIES = ("agents.", "commands.", "rollouts.")
UNCOUNTED = {
    "RenameAgent": "the machine works on",
    "TagAgent": "as above; what a tag is chosen by is a rollout, which asks",
    "FillAgentFields": "as above",
    "WriteNote": "as above",
    "ChangeNote": "as above",
    "RemoveNote": "as above",
    "ResumeAgent": "gives back what a suspension took, which asked",
    "SettleDuplicate": "of two that have one identity, one is shut out already",
    "EraseAgent": "of a retired agent, and to retire it asked; over everything, and grave whatever its size",
    "QueueCommand": "of one machine; one by one, what takes machines away is counted, and work for them is not",
    "CancelCommand": "takes work back",
    "PrioritiseCommand": "moves what is there",
    "RetryCommand": "as QueueCommand",
    "PlanRollout": "does nothing",
    "PlanCheck": "as above",
    "PauseRollout": "holds back",
    "ResumeRollout": "goes on with what was asked for when it was started",
    "ReleaseRollout": "as above",
    "CloseRollout": "ends",
    "AbortRollout": "ends",
    "ExtractHistory": "reads",
    "SaveView": "reads",
    "ChangeView": "reads",
    "RemoveView": "reads",
}
TO_ALL = {"name": "r", "target": {"include": {"everything": True}}, "spec": PING}


def touching() -> dict[str, type[Intent]]:
    """What names agents, or needs a permission that is about them."""
    intents = [route.intent for route in ROUTES if route.intent is not None]
    return {
        one.__name__: one
        for one in intents
        if NAMES.intersection(one.model_fields) or (one.needs is not None and one.needs.startswith(FAMILIES))
    }


async def one_by_one(_api: Api, fleet: Fleet, http: Any, name: str) -> Any:
    """The first is the one that may be touched."""
    first, second = await fleet.agent("first"), await fleet.agent("second")
    assert (await http.post(f"/agents/{first}/suspend", json={})).is_success
    (route,) = [one for one in ROUTES if one.intent is not None and one.intent.__name__ == name]
    body = {}
    if "site_id" in touching()[name].model_fields:
        body["site_id"] = (await made(fleet.http, f"/clients/{fleet.client_id}/sites", {"name": "Other"}))["id"]
    return await http.request(route.method, route.path.replace("{agent_id}", second), json=body)


async def rollout(api: Api, fleet: Fleet, http: Any, name: str) -> Any:
    """To two at once, or to those two of it that have failed."""
    for one in ("first", "second"):
        await fleet.agent(one)
    if name == "StartRollout":
        return await http.post("/rollouts", json=TO_ALL)
    rollout_id = (await made(fleet.http, "/rollouts", TO_ALL))["id"]
    await settle(api, fleet)
    for one in await members(fleet, rollout_id):
        await fleet.finish(one["agent_id"], one["command_id"], "failed")
    await settle(api, fleet)
    return await http.post(f"/rollouts/{rollout_id}/retry-failed", json={})


async def at_once(_api: Api, fleet: Fleet, http: Any, _name: str) -> Any:
    """Two that are named."""
    agents = [await fleet.agent(one) for one in ("first", "second")]
    return await http.post("/agents/tags", json={"agents": agents, "add": ["x"]})


async def check(_api: Api, fleet: Fleet, http: Any, name: str) -> Any:
    """One that runs something, on all: nobody knows how many that will be."""
    body = {"name": "c", "what": {"kind": "shell", "shell": "sh", "line": "true"}, "target": TO_ALL["target"]}
    (route,) = [one for one in ROUTES if one.intent is not None and one.intent.__name__ == name]
    path = route.path
    if name == "ChangeCheck":
        path = path.replace("{check_id}", (await made(fleet.http, "/checks", body))["id"])
    return await http.request(route.method, path, json=body)


WAYS: dict[str, Callable[[Api, Fleet, Any, str], Awaitable[Any]]] = {
    "StartRollout": rollout,
    "RetryRollout": rollout,
    "TagAgents": at_once,
    "DefineCheck": check,
    "ChangeCheck": check,
}


def test_what_need_not_ask_is_there() -> None:
    """No reason outlives what it is for."""
    assert set(UNCOUNTED) <= set(touching())


@pytest.mark.parametrize("name", sorted(set(touching()) - set(UNCOUNTED)))
async def test_it_asks(api: Api, fleet: Fleet, name: str) -> None:
    """Whoever may touch one agent is refused the second; so is whoever asks for something new that names agents."""
    permissions = sorted({one.value for one in Permission if one.startswith(FAMILIES)} | {touching()[name].needs or ""})
    role = {"permissions": [one for one in permissions if one], "limits": {"max_agents": 1}}
    await made(fleet.http, "/roles", {"name": "one at a time", **role})
    http = api.client(await api.key_that_may(grants=[{"role": "one at a time", "everything": True}]))
    answer = await WAYS.get(name, one_by_one)(api, fleet, http, name)
    assert (answer.status_code, answer.json()["code"]) == (403, "too_many_agents"), answer.text
