"""`fleetlog server-keys`: what it says, what it refuses, and what it leaves as it was."""

import asyncio
import json
from typing import Any

import pytest

from command_bus.ids import new_id
from domain.ids import ClientId, SiteId
from gateways.bench.simulated import enroll_simulated
from gateways.cli.program import run
from tests.rest.harness import Api


async def test_a_key_is_rotated_and_retired(
    api: Api, postgres_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each step says what comes next; one that cannot be taken, or would leave agents behind, is one line and a 2."""
    monkeypatch.setenv("FLEETLOG_POSTGRES_URL", postgres_url)

    async def told(*arguments: str) -> Any:
        assert await asyncio.to_thread(run, ["server-keys", *arguments, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    async def refused(*arguments: str) -> str:
        assert await asyncio.to_thread(run, ["server-keys", *arguments]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        return error.removeprefix("error: ")

    def states(rows: list[dict[str, Any]]) -> list[tuple[str, int, str]]:
        return [(row["purpose"], row["number"], row["state"]) for row in rows if row["purpose"] == "delivery"]

    await enroll_simulated(api.log, 12, ClientId(new_id()), SiteId(new_id()))
    await api.waiter.wait(await api.log.head(), ["agents"], 10.0)
    before = await told("list")
    assert [(row["purpose"], row["number"], row["state"]) for row in before] == [
        (purpose, 1, "used") for purpose in ("delivery", "issuer", "gateway", "system")
    ]
    assert (before[0]["known_by"], before[0]["agents"], before[1]["agents"]) == (12, 12, None)
    assert "no_old_key" in await refused("retire", "delivery")
    assert (await told("rotate", "delivery"))["number"] == 2
    assert "key_overlap" in await refused("rotate", "delivery")
    rows = await told("list")
    assert states(rows) == [("delivery", 1, "used"), ("delivery", 2, "announced")]
    assert [row["known_by"] for row in rows[:2]] == [12, 0]
    refusal = await refused("retire", "delivery")
    assert "agents_unaware" in refusal
    assert "12 of 12 agents" in refusal
    assert "and 2 more" in refusal
    assert states(await told("list")) == states(rows), "refused, it has changed nothing"
    assert (await told("retire", "delivery", "--force"))["unaware"] == 12
    assert states(await told("list")) == [("delivery", 1, "retired"), ("delivery", 2, "used")]
    assert await asyncio.to_thread(run, ["server-keys", "rotate", "issuer"]) == 0
    assert "server-keys retire issuer" in capsys.readouterr().out
    monkeypatch.setenv("FLEETLOG_NATS_URL", "nats://127.0.0.1:9")
    assert await asyncio.to_thread(run, ["server-keys", "rotate", "gateway"]) == 0
    capsys.readouterr()
    assert "key_not_taken" in await refused("retire", "gateway")
    assert "usage" in await refused("rotate", "nonsense")
