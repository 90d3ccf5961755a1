"""What a request costs the database."""

from collections import Counter
from typing import Any

import psycopg
import pytest

from tests.rest.harness import Api, Fleet


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many statements this process sends, by the way they go; the projector's own connection is synchronous too."""
    counts: Counter[str] = Counter()
    inner = psycopg.AsyncCursor.execute

    async def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        text = args[0] if isinstance(args[0], str) else bytes(args[0]).decode() if isinstance(args[0], bytes) else ""
        if "max(" not in text and "LISTEN" not in text and "read.tracking" not in text and "FROM tracking" not in text:
            counts[" ".join(text.split())[:60]] += 1
        return await inner(self, *args, **kwargs)

    monkeypatch.setattr(psycopg.AsyncCursor, "execute", counted)
    return counts


async def test_queueing_a_command_reads_two_streams_at_the_most(api: Api, fleet: Fleet, executed: Counter[str]) -> None:
    """POST /commands: one read of the agent, and one of the key if a second has passed; then the append."""
    agent_id = await fleet.agent()
    await fleet.command(agent_id)
    head = await api.log.head()
    await fleet.http.get("/commands", params={"wait_position": head})
    body = {"agent_id": agent_id, "spec": {"kind": "ping"}}
    executed.clear()
    for _ in range(5):
        assert (await fleet.http.post("/commands", json=body)).status_code == 202
    reads = {text: count for text, count in executed.items() if "originator_id" in text or "FROM" in text}
    streams = sum(count for text, count in reads.items() if "ANY" in text or "originator_id" in text)
    assert streams <= 2 * 5 + 2, executed


async def test_reading_a_command_is_one_statement(fleet: Fleet, executed: Counter[str]) -> None:
    """GET /commands/{id}: one row by its key."""
    command_id = await fleet.command(await fleet.agent())
    await fleet.http.get(f"/commands/{command_id}")
    del fleet.http.headers["Fleetlog-Wait-Position"]
    executed.clear()
    for _ in range(5):
        assert (await fleet.http.get(f"/commands/{command_id}")).status_code == 200
    assert sum(count for text, count in executed.items() if "command_id" in text) == 5
