"""The command line looks back."""

import json
from typing import Any

import pytest

from command_bus.event_log import Selection
from gateways.cli.program import run
from gateways.host import at_the_host
from tests.cli.terminal import Terminal
from tests.rest.harness import Api, Fleet


async def test_a_replay_is_made_asked_and_dropped(
    api: Api,
    fleet: Fleet,
    terminal: Terminal,
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Reads with --at show what was, by the replay's name and by its position; without it, what is."""
    monkeypatch.setenv("FLEETLOG_POSTGRES_URL", postgres_url)

    def told(*arguments: str) -> Any:
        assert run(["replay", *arguments, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    await fleet.agent("web-07")
    position = await api.log.head()
    await terminal.ok("agents", "rename", "web-07", "db-01")
    assert told() == []
    made = told("--at", str(position), "--name", "before")
    assert (made["position"], made["ready"]) == (position, True)
    assert [row["name"] for row in told("list")] == ["before"]
    for at in ("before", str(position), made["at"]):
        assert [row["name"] for row in await terminal.json("agents", "--at", at)] == ["web-07"]
    assert (await terminal.json("agents", "show", "web-07", "--at", "before"))["version"] == 1
    assert [row["name"] for row in await terminal.json("agents")] == ["db-01"]
    assert "renamed" not in await terminal.ok("timeline", "web-07", "--at", "before")
    for reads in (("agents", "duplicates"), ("forward",), ("why", str(position)), ("agents", "waiting")):
        await terminal.ok(*reads, "--at", "before")
    assert await terminal.refused("agents", "--at", str(position - 1)) == "no_replay"
    assert await terminal.refused("agents", "--at", "nonsense") == "unknown_replay"
    assert await terminal.refused("agents", "--at", "1.2.3") == "bad_value"
    assert run(["replay", "--at", "999999"]) == 2
    assert "position_not_reached" in capsys.readouterr().err
    assert run(["replay", "--at", "1", "--name", "7"]) == 2
    assert "begins with a letter" in capsys.readouterr().err
    (only,) = await terminal.json("diff", "before")
    assert only["text"] == "Agent 'db-01': name was web-07, is db-01."
    assert "is new" in await terminal.ok("diff", "0", "before", "--what", "agents", "--agent", "db-01")
    told("drop", "before")
    assert run(["replay", "drop", "before"]) == 2
    assert "unknown_replay" in capsys.readouterr().err
    head = await api.log.head()
    assert told("--at", "0s")["position"] == head
    # Whoever builds or drops one on the server leaves a trace; what was refused does not.
    acts = await api.log.read(Selection(types=("ReplayMade", "ReplayDropped")))
    told_of = [(type(one.event).__name__, getattr(one.event, "name", ""), one.actor) for one in acts]
    names = ("ReplayMade", "before"), ("ReplayDropped", "before"), ("ReplayMade", f"at-{head}")
    assert told_of == [(*each, at_the_host()) for each in names]
