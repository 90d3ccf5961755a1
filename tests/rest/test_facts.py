"""What a machine tells of itself, from where it is gathered to where it is shown."""

import socket
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import psutil
import pytest

from agent import VERSION, facts
from command_bus.handlers.presence import PresenceHandler
from command_bus.ids import new_id
from domain.ids import AgentId, ClientId
from gateways.agents.uplink import check_facts
from tests.rest.harness import Api, Fleet

WANTED = {
    "hostname", "os", "cpu", "memory_bytes", "disks", "addresses", "logged_in_user", "boot_time", "agent_version",
}  # fmt: skip
SESSIONS = [
    SimpleNamespace(name="root", started=1_700_000_000.0),
    SimpleNamespace(name="ada", started=1_700_009_000.0),
    SimpleNamespace(name="zoe", started=1_700_008_000.0),
]


@pytest.mark.parametrize(
    ("sessions", "user", "users"),
    [([], "", []), (SESSIONS, "ada", ["ada", "root", "zoe"])],
    ids=["nobody", "several"],
)
async def test_facts_as_they_are_gathered_are_shown(
    api: Api, fleet: Fleet, monkeypatch: pytest.MonkeyPatch, sessions: list[Any], user: str, users: list[str]
) -> None:
    """All that is wanted of a machine is gathered, reaches its page, and what a list shows of it is filled from it."""
    monkeypatch.setattr(psutil, "users", lambda: sessions)  # who is logged in here is not the test's to say
    gathered = facts.gather()
    assert gathered.keys() >= WANTED
    agent_id = await fleet.agent("named-at-enrollment")
    accepted = check_facts(gathered)
    assert await PresenceHandler(api.log, new_id).facts(
        AgentId(UUID(agent_id)), ClientId(UUID(fleet.client_id)), accepted
    )
    query = {"wait_position": await api.log.head()}
    shown = (await api.client().get(f"/agents/{agent_id}", params=query)).json()
    assert shown["facts"] == accepted
    assert shown["facts"]["users"] == users
    assert shown["logged_in_user"] == user
    assert (shown["hostname"], shown["os"], shown["agent_version"]) == (socket.gethostname(), gathered["os"], VERSION)
    assert gathered["os"]
    (listed,) = (await api.client().get("/agents", params=query)).json()["items"]
    assert listed == {name: value for name, value in shown.items() if name not in {"facts", "public_key"}}
