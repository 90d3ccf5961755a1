"""Commands, queues and stories from the command line, on a real API."""

import asyncio
import hashlib
import json
import signal
from pathlib import Path

from domain.output_reads import NOT_SHOWN
from schema.wire import StreamReport
from tests.cli.terminal import Terminal
from tests.rest.harness import Fleet, made


async def _queued(terminal: Terminal, *what: str) -> str:
    return str((await terminal.json("run", "web-07", *what, "--queue"))["id"])


async def test_the_queue_in_the_order_of_delivery(terminal: Terminal, fleet: Fleet, tmp_path: Path) -> None:
    """What waits is shown with what it does, the most urgent first."""
    await fleet.agent("web-07")
    file = tmp_path / "backup.sh"
    file.write_text("true\n")
    await terminal.ok("scripts", "add", str(file))
    later = await _queued(terminal, "backup")
    sooner = await _queued(terminal, "--shell", "sh", "uptime", "--priority", "1")
    assert [item["id"] for item in await terminal.json("queue", "web-07")] == [sooner, later]
    lines = (await terminal.ok("queue", "web-07")).splitlines()
    assert "sh: uptime" in lines[1]
    assert "backup rev 1" in lines[2]


async def test_cancel_while_queued(terminal: Terminal, fleet: Fleet) -> None:
    """What never left the queue is cancelled at once, once."""
    await fleet.agent("web-07")
    command = await _queued(terminal, "--ping")
    assert "never left" in await terminal.ok("cancel", command, "--reason", "mistake")
    assert await terminal.refused("cancel", command) == "command_ended"
    assert await terminal.json("queue", "web-07") == []
    assert "mistake" in await terminal.ok("show", command)


async def test_cancel_of_what_the_agent_has(terminal: Terminal, fleet: Fleet) -> None:
    """The agent is asked, and the answer does not pretend more."""
    agent = await fleet.agent("web-07")
    command = await _queued(terminal, "--ping")
    await fleet.accept(agent, command)
    assert "asked" in await terminal.ok("cancel", command)
    assert (await terminal.json("queue", "web-07"))[0]["cancel_requested"] is True


async def _waiting(fleet: Fleet, agent: str) -> str:
    """The one command that waits for the agent, once it does."""
    async with asyncio.timeout(10):
        while True:
            items = (await fleet.http.get(f"/agents/{agent}/queue")).json()["items"]
            if items:
                return str(items[0]["id"])


async def test_run_waits_for_the_end(terminal: Terminal, fleet: Fleet) -> None:
    """`run` returns when the agent has reported: its output byte for byte, and an exit code for the outcome."""
    agent = await fleet.agent("web-07")
    for outcome, exit_code, last in (("succeeded", 0, "CommandSucceeded"), ("failed", 1, "CommandFailed")):
        running = await terminal.start("run", "web-07", "--shell", "sh", "x")
        command = await _waiting(fleet, agent)
        await fleet.finish(agent, command, outcome)
        stdout, stderr = await asyncio.wait_for(running.communicate(), 20)
        assert (running.returncode, stdout) == (exit_code, b"")
        assert f"{command} {outcome}" in stderr.decode()
        shown = await terminal.json("show", command)
        assert shown["state"] == outcome
        assert shown["events"][-1]["type"] == last


async def test_ctrl_c_leaves_the_command_queued(terminal: Terminal, fleet: Fleet) -> None:
    """Interrupted while waiting, `run` names the command and how to take it back, and the command stays."""
    agent = await fleet.agent("web-07")
    running = await terminal.start("run", "web-07", "--ping")
    command = await _waiting(fleet, agent)
    # The watching has begun once its live stream is asked for; before that the command could not be named either.
    async with asyncio.timeout(10):
        await fleet.api.live.followed.wait()
    running.send_signal(signal.SIGINT)
    _, stderr = await asyncio.wait_for(running.communicate(), 20)
    assert running.returncode == 130
    assert f"stays in the queue as {command}" in stderr.decode()
    assert f"fleetlog cancel {command}" in stderr.decode()
    assert [item["state"] for item in await terminal.json("queue", "web-07")] == ["queued"]


async def test_retry_is_a_new_command(terminal: Terminal, fleet: Fleet) -> None:
    """Only what has ended is queued again, as a command of its own that names the old one."""
    agent = await fleet.agent("web-07")
    command = await _queued(terminal, "--ping")
    assert await terminal.refused("retry", command, "--queue") == "command_not_ended"
    await fleet.finish(agent, command, "failed")
    again = (await terminal.json("retry", command, "--queue"))["id"]
    assert (await terminal.json("show", again))["retry_of"] == command
    states = [(item["id"], item["state"]) for item in await terminal.json("commands", "--agent", "web-07")]
    assert states == [(again, "queued"), (command, "failed")]
    assert [item["id"] for item in await terminal.json("commands", "--state", "failed")] == [command]


async def test_a_command_is_found_by_a_piece_of_its_id(terminal: Terminal, fleet: Fleet) -> None:
    """The end of an id is enough where it is unique."""
    await fleet.agent("web-07")
    command = await _queued(terminal, "--ping")
    assert (await terminal.json("show", command[-8:]))["id"] == command
    assert await terminal.refused("show", "ffffffff0") == "not_found"


async def test_bad_input(terminal: Terminal, fleet: Fleet) -> None:
    """What the API refuses is one red line with its code."""
    await fleet.agent("web-07")
    assert await terminal.refused("run", "nobody", "--ping") == "not_found"
    assert await terminal.refused("run", "web-07", "no-such-script") == "not_found"
    assert await terminal.refused("run", "web-07", "--ping", "--expires-in", "2020-01-01T00:00Z") == "expiry_in_past"
    assert (
        await terminal.refused("run", "web-07", "--ping", "--not-before", "2d", "--expires-in", "1d")
        == "expiry_before_start"
    )
    await terminal.ok("agents", "suspend", "web-07")
    assert await terminal.refused("run", "web-07", "--ping") == "agent_suspended"


async def test_timeline_and_events(terminal: Terminal, fleet: Fleet, tmp_path: Path) -> None:
    """The story of an agent, the log by filter, an export that holds every line; what was printed on demand alone."""
    agent = await fleet.agent("web-07")
    command = await _queued(terminal, "--ping", "--reason", "routine")
    printed = StreamReport(size=2, sha256=hashlib.sha256(b"ok").hexdigest(), tail=b"ok")
    await fleet.finish(agent, command, stdout=printed)
    story = [event["type"] for event in await terminal.json("timeline", "web-07")]
    assert story[0] == "AgentEnrolled"
    assert story[-1] == "CommandSucceeded"
    found = await terminal.json("events", "--type", "CommandQueued", "--agent", "web-07", "--since", "1h")
    assert [event["stream_id"] for event in found] == [command]
    said = await terminal.json("events", "--said", "COMMAND QUEUED", "--client", "Acme")
    assert {event["type"] for event in said} == {"CommandQueued"}
    assert await terminal.json("events", "--said", "the moon was full") == []
    newest = await terminal.json("events", "--backwards", "--limit", "1")
    assert newest[0]["type"] == "CommandSucceeded"
    file = tmp_path / "log.ndjson"
    await terminal.ok("events", "--stream", command, "--export", str(file))
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["stream_id"] for line in lines] == [command] * len(lines)
    assert len(lines) == len(await terminal.json("events", "--stream", command))
    assert await terminal.refused("events", "--export", "/nowhere/log.ndjson") == "bad_value"
    for more, tail in (((), NOT_SHOWN), (("--outputs",), "ok")):
        (ended,) = await terminal.json("events", "--stream", command, "--type", "CommandSucceeded", *more)
        assert ended["data"]["result"]["stdout"]["tail"] == tail
    (read,) = await terminal.json("events", "--type", "OutputRead")
    assert read["text"] == f"Output of command {command} read: its end, with its events."


async def test_a_story_is_followed_into_what_begins_later(terminal: Terminal, fleet: Fleet) -> None:
    """A user's key that was made meanwhile, and what is done with it: each event once, in order."""
    agent_id = await fleet.agent("web-07")
    grants = [{"role": "operator", "everything": True}]
    user = await made(fleet.http, "/users", {"name": "Ada", "grants": grants})
    follower = await terminal.start("timeline", "--user", "Ada", "--follow", "--json")
    assert follower.stdout is not None
    seen = []
    async with asyncio.timeout(30):
        seen.append(json.loads(await follower.stdout.readline())["type"])
        ada = fleet.api.client(await fleet.api.key_that_may(owner_id=user["id"]))
        queued = [(await made(ada, "/commands", {"agent_id": agent_id, "spec": {"kind": "ping"}}))["id"] for _ in "ab"]
        told: list[str] = []
        while len(told) < len(queued):
            event = json.loads(await follower.stdout.readline())
            seen.append(event["type"])
            if event["type"] == "CommandQueued":
                told.append(event["stream_id"])
        assert told == queued
        follower.send_signal(signal.SIGINT)
        await follower.communicate()
    assert follower.returncode == 130
    assert seen.count("UserCreated") == 1


async def test_follow_shows_what_happens(terminal: Terminal, fleet: Fleet) -> None:
    """`events --follow` prints each event once as it is recorded, until it is interrupted."""
    await fleet.agent("web-07")
    follower = await terminal.start("events", "--follow", "--after", "0", "--json")
    assert follower.stdout is not None
    seen = []
    async with asyncio.timeout(20):
        while "AgentEnrolled" not in seen:
            seen.append(json.loads(await follower.stdout.readline())["type"])
        command = await _queued(terminal, "--ping")
        while (event := json.loads(await follower.stdout.readline()))["type"] != "CommandQueued":
            seen.append(event["type"])
        assert event["stream_id"] == command
        follower.send_signal(signal.SIGINT)
        await follower.communicate()
    assert follower.returncode == 130
    assert seen.count("ClientCreated") == 1
