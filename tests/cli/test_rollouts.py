"""Rollouts from the command line, on a real API with a fan-out beside it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from command_bus.ids import new_id, utc_now
from command_bus.rollouts import FanOut
from projections.rollout_reads import RolloutReader
from tests.cli.terminal import Terminal
from tests.command_bus.rolling_out import Impatient
from tests.rest.harness import Api, Fleet


@asynccontextmanager
async def fanning_out(api: Api, fleet: Fleet, outcome: str = "succeeded") -> AsyncIterator[None]:
    """A scheduler, and agents that do at once what they are told."""

    async def work() -> None:
        fan_out = FanOut(api.log, api.in_flight, RolloutReader(api.pool.connection), Impatient(), new_id)
        http = api.client(check=False)
        while True:
            await fan_out.turn(utc_now())
            for item in (await http.get("/commands", params={"state": "queued"})).json()["items"]:
                await fleet.finish(item["agent_id"], item["id"], outcome)

    working = asyncio.create_task(work())
    try:
        yield
    finally:
        working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working


async def test_start_waits_for_the_end(terminal: Terminal, api: Api, fleet: Fleet) -> None:
    """`start` returns when every agent has reported, with an exit code for the outcome."""
    for name in ("web-01", "web-02", "db-01"):
        await fleet.agent(name)
    async with fanning_out(api, fleet):
        told = await terminal.ok(
            "rollout", "start", "--ping", "--client", "Acme", "--not-agent", "db-01", "--wave", "50%"
        )
    assert "completed" in told
    assert "2 succeeded" in told
    async with fanning_out(api, fleet, "failed"):
        result = await terminal("rollout", "start", "--ping", "--all", "--name", "second", "--json")
        assert result.exit_code == 1
        assert '"failed": 3' in result.stdout
    async with fanning_out(api, fleet):
        assert "3 succeeded" in await terminal.ok("rollout", "retry", "second")
    listed = await terminal.json("rollout")
    assert [item["state"] for item in listed] == ["completed", "completed"]
    assert "3 agents: succeeded with exit code 0" in await terminal.ok("rollout", "show", listed[0]["id"])
    told = (await terminal.ok("rollout", "outcomes", listed[0]["id"])).splitlines()
    assert told == ["3 agents: succeeded with exit code 0", "3 agents printed nothing."]
    assert "agents a minute" in await terminal.ok("rollout", "show", listed[0]["id"])
    (site,) = (await terminal.ok("rollout", "show", listed[0]["id"], "--sites")).splitlines()[1:]
    assert site.split("\t") == ["Acme", "Main", "3", "0", "3 succeeded"]
    rows = (await terminal.ok("rollout", "show", listed[1]["id"], "--state", "succeeded")).splitlines()
    of_wave = await terminal.ok("rollout", "show", listed[1]["id"], "--wave", "1", "--site", fleet.site_id)
    assert of_wave.splitlines() == [rows[0], *(row for row in rows[1:] if row.split("\t")[2] == "1")]
    assert sorted(row.split("\t")[0] for row in rows[1:]) == ["web-01", "web-02"]


async def test_whoever_waits_sees_a_bar_that_moves(terminal: Terminal, api: Api, fleet: Fleet) -> None:
    """In a terminal, a line that is painted anew as agents end, and the outcome in its place when all have."""
    for name in ("web-01", "web-02"):
        await fleet.agent(name)
    async with fanning_out(api, fleet):
        seen = await terminal.seen("rollout", "start", "--ping", "--all", "--wave", "1")
    assert "2/2" in seen
    assert "wave 2 of 2" in seen
    assert "2 succeeded" in seen.rpartition("completed")[2]


async def test_a_plan_starts_nothing(terminal: Terminal, fleet: Fleet) -> None:
    """Who would be reached is said, with who would not and why."""
    await fleet.agent("web-01")
    await fleet.agent("pc-01", "windows")
    told = await terminal.ok("rollout", "plan", "--shell", "cmd", "ver", "--all")
    assert told.splitlines() == ["1 agents in 1 waves (1).", "1 left out: wrong platform", "  web-01: wrong platform"]
    assert await terminal.json("rollout", "list") == []
    planned = await terminal.json("rollout", "plan", "--ping", "--all", "--wave", "1")
    assert planned["waves"] == [1, 1]


async def test_a_rollout_is_steered(terminal: Terminal, fleet: Fleet) -> None:
    """Each action says what it did; what cannot be done is one red line."""
    await fleet.agent("web-01")
    await terminal.ok("rollout", "start", "--ping", "--all", "--name", "Patch day", "--queue")
    assert "Paused" in await terminal.ok("rollout", "pause", "patch day", "--reason", "lunch")
    assert "lunch" in await terminal.ok("rollout", "show", "patch day")
    assert await terminal.refused("rollout", "pause", "patch day") == "rollout_paused"
    assert "Resumed" in await terminal.ok("rollout", "resume", "patch day", "--queue")
    assert await terminal.refused("rollout", "release", "patch day") == "no_wave_left"
    assert await terminal.refused("rollout", "retry", "patch day") == "nothing_to_retry"
    assert "Aborted" in await terminal.ok("rollout", "abort", "patch day")
    assert (await terminal.json("rollout", "show", "patch day"))["state"] == "aborted"


async def test_what_makes_no_sense_is_refused(terminal: Terminal, fleet: Fleet) -> None:
    """Nobody named, no such wave, no such rollout: nothing is started."""
    await fleet.agent("web-01")
    assert await terminal.refused("rollout", "start", "--ping") == "invalid_value"
    assert await terminal.refused("rollout", "start", "--ping", "--all", "--wave", "half") == "bad_value"
    assert await terminal.refused("rollout", "start", "--all") == "bad_value"
    assert await terminal.refused("rollout", "show", "nothing") == "not_found"


async def test_whom_and_when_is_said_in_words(terminal: Terminal, fleet: Fleet) -> None:
    """Machines by their facts, hours by the clock, and an open end: as typed, or refused with the reason."""
    await fleet.agent("web-01")
    await fleet.agent("pc-01", "windows")
    told = await terminal.ok(
        *("rollout", "plan", "--ping", "--all", "--platform", "linux", "--where", "not facts.os_id = 'debian'"),
        *("--joins-within", "14d", "--max-unanswered", "10", "--hours", "22:00-05:00", "--days", "fri-sun"),
    )
    first, second, *rest = told.splitlines()
    assert first == "0 agents."
    assert second.startswith("Those that come to match until ")
    assert rest == ["1 left out: filter unknown", "1 left out: other platform", "  web-01: filter unknown"]
    planned = await terminal.json("rollout", "plan", "--ping", "--all", "--hours", "22:00-05:00", "--timezone", "UTC")
    assert planned["targeted"] == 2
    for option in (("--hours", "22:00"), ("--days", "mon"), ("--hours", "22:00-05:00", "--days", "monday")):
        assert await terminal.refused("rollout", "plan", "--ping", "--all", *option) == "bad_value"
    assert await terminal.refused("rollout", "plan", "--ping", "--all", "--where", "os = 1") == "invalid_filter"
    await terminal.ok(
        "rollout", "start", "--ping", "--agent", "web-01", "--joins-within", "1d", "--name", "r", "--queue"
    )
    assert "open until" in await terminal.ok("rollout", "show", "r")
    assert "Closed" in await terminal.ok("rollout", "close", "r")
    assert await terminal.refused("rollout", "close", "r") == "rollout_not_open"
