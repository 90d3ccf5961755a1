"""`fleetlog why`: back from an event or a command, cause by cause, to the request that began it."""

from tests.cli.terminal import Terminal
from tests.rest.harness import Fleet


async def test_a_command_leads_back_to_who_asked(fleet: Fleet, terminal: Terminal) -> None:
    """By its id or the end of it, by the position of any of its events, as sentences and as data."""
    agent_id = await fleet.agent("web-07")
    command_id = await fleet.command(agent_id)
    await fleet.accept(agent_id, command_id)
    await fleet.start(agent_id, command_id)
    await fleet.finish(agent_id, command_id)
    printed = await terminal.ok("why", command_id)
    lines = printed.splitlines()
    assert "Command succeeded" in lines[0]
    assert "Command queued: ping" in printed
    actor = (await terminal.json("me"))["actor"]
    assert lines[-1].startswith("begun by")
    assert actor in lines[-1]
    assert (await terminal.ok("why", command_id[-8:])) == printed
    told = await terminal.json("why", command_id)
    assert told["begun_by"] == actor
    assert told["hidden"] is False
    position = str(told["items"][0]["event"]["position"])
    assert await terminal.ok("why", position) == printed


async def test_what_cannot_be_asked(fleet: Fleet, terminal: Terminal) -> None:
    """An event and a command that are not there; what lies beyond one's tenants is said to be hidden, and not shown."""
    assert await terminal.refused("why", "999999") == "not_found"
    assert await terminal.refused("why", "ffffffff") == "not_found"
    agent_id = await fleet.agent("web-07")
    other = await Fleet.make(fleet.api, fleet.api.client(), "Globex")
    key = await fleet.api.key(client_ids=[other.client_id])  # type: ignore[list-item]
    command_id = await fleet.command(agent_id)
    stranger = Terminal(fleet.api.url, key, terminal.settle)
    assert await stranger.refused("why", command_id) == "not_found"
