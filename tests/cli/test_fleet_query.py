"""The search box's query, on the command line."""

from datetime import UTC, datetime

import pytest

from gateways.cli.errors import BadValueError
from gateways.cli.fleet_query import matching
from tests.cli.terminal import Terminal
from tests.rest.harness import Fleet

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        ("", {"retired": False}),
        ("web 07", {"q": "web 07", "retired": False}),
        ("status:offline", {"online": False, "state": "active"}),
        ("OS:Linux tag:web tag:prod", {"platform": "linux", "tag": ["web", "prod"], "retired": False}),
        ('os:"Debian GNU" "a b"', {"os": "Debian GNU", "q": "a b", "retired": False}),
        ("reboot:needed", {"reboot_needed": True, "retired": False}),
        ("reboot:none", {"reboot_needed": False, "retired": False}),
        ("pending:>0 is:duplicate", {"pending": 1, "duplicate": True, "retired": False}),
        ("pending:5 version:0.1.0", {"pending": 5, "agent_version": "0.1.0", "retired": False}),
        ("seen:<1h", {"seen_after": "2026-05-01T11:00:00+00:00", "retired": False}),
        ("seen:>1d status:retired", {"seen_before": "2026-04-30T12:00:00+00:00", "state": "retired"}),
    ],
)
def test_it_is_read_as_the_search_box_reads_it(typed: str, asked: dict[str, object]) -> None:
    """Each key becomes the filter of the list that it stands for."""
    assert matching(typed, NOW) == asked


@pytest.mark.parametrize(
    "typed", ["colour:red", "status:asleep", "platform:bsd", "is:odd", "pending:many", "seen:1h", "seen:>999999w"]
)
def test_what_is_not_understood_is_refused(typed: str) -> None:
    """Nothing is done to machines by a query that was half read."""
    with pytest.raises(BadValueError):
        matching(typed, NOW)


async def test_all_that_match_are_tagged_and_rolled_out_to(terminal: Terminal, fleet: Fleet) -> None:
    """The same query tags machines and chooses them for a rollout."""
    for name in ("web-01", "web-02", "db-01"):
        await fleet.agent(name)
    assert "2 agents have" in await terminal.ok("agents", "tag", "--where", "web", "+front", "+prod")
    assert "1 agent has" in await terminal.ok("agents", "tag", "--where", "web-02", "--", "-prod")
    tags = {one["name"]: one["tags"] for one in await terminal.json("agents")}
    assert tags == {"web-01": ["front", "prod"], "web-02": ["front"], "db-01": []}
    assert await terminal.refused("agents", "tag", "--where", "web", "front") == "bad_value"
    assert await terminal.refused("agents", "tag") == "bad_value"
    planned = await terminal.json("rollout", "plan", "--ping", "--matching", "tag:front")
    assert planned["targeted"] == 2
