"""Scripts on a real agent process over a real NATS server."""

import asyncio
import hashlib
import os
import pwd
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import psutil
import pytest

from agent.journal import Journal
from agent.platforms import PLATFORM
from schema import software, wire
from tests.agent.scripted import AgentProcess, ScriptedGateway, script


async def soon(condition: Callable[[], object], timeout_s: float = 15.0) -> None:
    """Poll for what no message tells of."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - other processes set no events
            await asyncio.sleep(0.02)


async def test_script_runs_with_arguments_and_variables(gateway: ScriptedGateway, agent: AgentProcess) -> None:
    """A script gets its arguments, its environment and no input; its streams and exit code come back apart."""
    agent.start()
    work = script('echo "$1|$GREETING"; cat; echo oops >&2; exit 3', args=["a b"], env={"GREETING": "hi"})
    order = gateway.order(work)
    assert [a.status for a in await gateway.deliver(order)] == ["accepted"]
    result = await gateway.result(order.command_id)
    assert (result.outcome, result.exit_code) == ("failed", 3)
    assert gateway.output(result.stdout) == b"a b|hi\n"
    assert gateway.output(result.stderr) == b"oops\n"
    assert result.stdout.sha256 == hashlib.sha256(b"a b|hi\n").hexdigest()


@pytest.mark.parametrize(
    ("shell", "line"), [("sh", "echo $((6*7))"), ("bash", "echo $((6*7))"), ("python", "print(6*7)")]
)
async def test_shell_line(gateway: ScriptedGateway, agent: AgentProcess, shell: str, line: str) -> None:
    """A line is handed to its shell as an argument."""
    agent.start()
    order = gateway.order(script(line, shell=shell, inline=True))
    await gateway.deliver(order)
    result = await gateway.result(order.command_id)
    assert (result.outcome, gateway.output(result.stdout)) == ("succeeded", b"42\n")


async def test_who_begins_to_watch_is_sent_what_was_printed_before(
    gateway: ScriptedGateway, agent: AgentProcess, tmp_path: Path
) -> None:
    """Live output that nobody heard comes again for a watcher who comes later; of what does not run, nothing does."""
    agent.start()
    go = tmp_path / "go"
    order = gateway.order(script(f"echo early; while [ ! -e {go} ]; do sleep 0.05; done; echo late"))
    await gateway.deliver(order)
    await gateway.until(lambda: gateway.live)
    gateway.live.clear()
    watch = wire.encode(wire.OutputWatch(command_id=order.command_id))
    assert await gateway.ask(watch) == wire.Acknowledged()
    await gateway.until(lambda: gateway.live)
    assert (gateway.live[0].offset, gateway.live[0].data) == (0, b"early\n")
    go.touch()
    assert gateway.output((await gateway.result(order.command_id)).stdout) == b"early\nlate\n"
    assert await gateway.ask(watch) == wire.Acknowledged(detail="not_running")


async def test_what_a_busy_server_asks_for_is_heeded(gateway: ScriptedGateway, agent: AgentProcess) -> None:
    """A result that is refused for now is kept, and comes again no sooner than was asked, whatever else is answered."""
    gateway.busy["result"] += [0.4, 0.6]
    agent.start()
    order = gateway.order(wire.PingWork())
    await gateway.deliver(order)
    await gateway.until(lambda: len(gateway.heard["result"]) == 3)
    first, second, third = gateway.came["result"]
    assert second - first >= 0.4
    assert third - second >= 0.6
    assert {report.command_id for report in gateway.heard["result"]} == {order.command_id}


async def test_ping_and_facts(gateway: ScriptedGateway, agent: AgentProcess) -> None:
    """A ping succeeds; facts are reported, and a command for them has them as its output."""
    agent.start()
    ping, facts = gateway.order(wire.PingWork()), gateway.order(wire.FactsWork())
    await gateway.deliver(ping, facts)
    assert (await gateway.result(ping.command_id)).outcome == "succeeded"
    result = await gateway.result(facts.command_id)
    assert b'"hostname"' in gateway.output(result.stdout)
    await gateway.until(lambda: gateway.heard["facts"])
    assert gateway.heard["facts"][0].facts["memory_bytes"] == psutil.virtual_memory().total
    # What is installed follows, though its time has not come.
    await gateway.until(lambda: gateway.heard["software"])
    assert software.unpack(gateway.heard["software"][0].packed) == PLATFORM.software()


async def test_refusals(gateway: ScriptedGateway, agent: AgentProcess) -> None:
    """What this machine can never do is rejected with a code, and spoils nothing beside it."""
    agent.start()
    orders = [
        gateway.order(b"\x81\xa4kind\xa5dance"),
        gateway.order(b"\xc1"),
        gateway.order(script("x", shell="cmd")),  # noqa: S604 - a field of that name
        gateway.order(script("x", run_as="no-such-user")),
        gateway.order(wire.PingWork(), expires_at=datetime.now(UTC) - timedelta(seconds=1)),
        gateway.order(wire.PingWork()),
    ]
    said = [(a.status, a.code) for a in await gateway.deliver(*orders)]
    assert said == [
        ("rejected", "unknown_kind"),
        ("rejected", "malformed"),
        ("rejected", "wrong_platform"),
        ("rejected", "unknown_user"),
        ("expired", ""),
        ("accepted", ""),
    ]


async def test_an_order_that_cannot_be_read_is_rejected_by_name(gateway: ScriptedGateway, agent: AgentProcess) -> None:
    """One that a newer server has changed beyond recognition spoils no other, and neither does one on the disk.

    What an agent accepted and an older one in its place cannot read is refused, and the rest goes on.
    """
    journal = Journal(gateway.state_dir)
    dance = gateway.order(b"\x81\xa4kind\xa5dance")
    journal.accept([dance], datetime.now(UTC))
    journal.close()
    agent.start()
    refused = await gateway.result(dance.command_id)
    assert (refused.outcome, refused.code) == ("rejected", "unknown_kind")
    changed, plain = gateway.order(wire.PingWork()), gateway.order(wire.PingWork())
    as_sent = msgspec.msgpack.decode(wire.encode(changed)) | {"lane": ["a", "newer", "lane"]}
    body = {"agent_id": str(gateway.agent_id), "sent_at": datetime.now(UTC), "orders": [as_sent, plain]}
    reply = await gateway.ask(gateway.signed(wire.encode(body)))
    assert isinstance(reply, wire.DeliveryReply)
    said = {one.command_id: (one.status, one.code) for one in reply.orders}
    assert said == {changed.command_id: ("rejected", "malformed"), plain.command_id: ("accepted", "")}
    assert (await gateway.result(plain.command_id)).outcome == "succeeded"
    nameless = await gateway.ask(gateway.signed(wire.encode(body | {"orders": [{"to": "be told"}]})))
    assert isinstance(nameless, wire.Refused)
    assert (nameless.code, nameless.permanent) == ("malformed", True)


async def test_unsigned_and_misdirected(gateway: ScriptedGateway, agent: AgentProcess) -> None:
    """Orders that the server has not signed, or that are another agent's, are rejected and do not run."""
    from uuid import uuid4

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    agent.start()
    order = gateway.order(wire.PingWork())
    await gateway.hello()
    await gateway.deliver(gateway.order(wire.PingWork()))
    forged = await gateway.ask(gateway.delivery(order, key=Ed25519PrivateKey.generate()))
    strange = await gateway.ask(gateway.delivery(order, agent_id=uuid4()))
    garbage = await gateway.ask(b"\xff\x00")
    unknown = await gateway.ask(b"\x81\xa4kind\xa5dance")
    assert isinstance(forged, wire.DeliveryReply)
    assert isinstance(strange, wire.DeliveryReply)
    assert [a.code for a in forged.orders + strange.orders] == ["bad_signature", "wrong_agent"]
    assert isinstance(garbage, wire.Refused)
    assert isinstance(unknown, wire.Refused)
    assert (garbage.code, unknown.code) == ("malformed", "unknown_kind")


async def test_redelivery_runs_once(gateway: ScriptedGateway, agent: AgentProcess, place: Path) -> None:
    """An attempt that is delivered again, before and after it ended, is accepted each time and runs once."""
    agent.start()
    lines = place / "lines"
    order = gateway.order(script(f"echo run >> {lines}"))
    for _ in range(3):
        assert (await gateway.deliver(order))[0].status == "accepted"
    await gateway.result(order.command_id)
    assert (await gateway.deliver(order))[0].status == "accepted"
    after = gateway.order(wire.PingWork())
    await gateway.deliver(after)
    await gateway.result(after.command_id)
    assert lines.read_text() == "run\n"


async def test_timeout_ends_whole_tree(gateway: ScriptedGateway, agent: AgentProcess, place: Path) -> None:
    """A timeout ends grandchildren too, also those in sessions of their own and those that ignore SIGTERM."""
    agent.start()
    pids = place / "pids"
    body = (
        f"trap '' TERM\n(setsid sh -c 'trap \"\" TERM; echo $$ >> {pids}; sleep 300; sleep 300' &)\n"
        f"setsid sleep 301 &\necho $! >> {pids}\necho $$ >> {pids}\nsleep 302\nsleep 303\n"
    )
    order = gateway.order(script(body, timeout_s=1))
    await gateway.deliver(order)
    result = await gateway.result(order.command_id)
    assert result.outcome == "timed_out"
    started = [int(line) for line in pids.read_text().split()]
    assert len(started) == 3
    assert not [pid for pid in started if psutil.pid_exists(pid)]


async def test_cancel_waiting_and_running(gateway: ScriptedGateway, agent: AgentProcess, place: Path) -> None:
    """What waits is dropped and never runs, not even when it comes again; what runs is ended as cancelled."""
    agent.start()
    lines = place / "lines"
    first = gateway.order(script("sleep 300"))
    second = gateway.order(script(f"echo run >> {lines}"))
    never_came = gateway.order(script(f"echo run >> {lines}"))
    await gateway.deliver(first, second)
    await gateway.until(lambda: gateway.heard["started"])
    statuses = await gateway.cancel(second.command_id, never_came.command_id, first.command_id)
    assert statuses == {
        str(first.command_id): "ending",
        str(second.command_id): "dropped",
        str(never_came.command_id): "dropped",
    }
    assert (await gateway.result(first.command_id)).outcome == "cancelled"
    assert [a.status for a in await gateway.deliver(second, never_came)] == ["cancelled", "cancelled"]
    last = gateway.order(wire.PingWork())
    await gateway.deliver(last)
    await gateway.result(last.command_id)
    assert not lines.exists()
    reply = await gateway.ask_to_cancel(last.command_id, second.command_id)
    assert reply.statuses == {str(last.command_id): "ended", str(second.command_id): "dropped"}
    assert reply.attempts == {str(last.command_id): 1}


async def test_background_child_does_not_hold_the_result(
    gateway: ScriptedGateway, agent: AgentProcess, place: Path
) -> None:
    """A child that keeps the pipes open lives on, and the result does not wait for it."""
    agent.start()
    pid_file = place / "pid"
    order = gateway.order(script(f"sleep 300 & echo $! > {pid_file}; echo done"))
    await gateway.deliver(order)
    result = await gateway.result(order.command_id, timeout_s=8)
    child = psutil.Process(int(pid_file.read_text()))
    assert (result.outcome, gateway.output(result.stdout), child.is_running()) == ("succeeded", b"done\n", True)
    child.kill()


async def test_large_binary_output(gateway: ScriptedGateway, agent: AgentProcess, place: Path) -> None:
    """50 MiB of any bytes on each stream arrive as they were, in bounded memory; what is beyond is cut, and said."""
    agent.start()
    source = place / "source"
    data = os.urandom(1024 * 1024) * 50
    assert len(data) == wire.MAX_OUTPUT_BYTES
    source.write_bytes(data)
    order = gateway.order(script(f"cat {source}; cat {source} >&2; echo more >&2"))
    await gateway.deliver(order)
    result = await gateway.result(order.command_id, timeout_s=50)
    digest = hashlib.sha256(data).hexdigest()
    assert [(s.size, s.sha256) for s in (result.stdout, result.stderr)] == [(len(data), digest)] * 2
    assert gateway.output(result.stdout) == data
    assert result.detail == "stderr was cut at 52428800 bytes"
    assert psutil.Process(agent.pid).memory_info().rss < 80 * 1024 * 1024
    spool = gateway.state_dir / "spool"
    await soon(lambda: not list(spool.iterdir()))


async def test_script_file_is_private_and_removed(gateway: ScriptedGateway, agent: AgentProcess) -> None:
    """The body's file is its reader's alone while it runs, and gone afterwards; arguments are on no disk."""
    agent.start()
    order = gateway.order(script('stat -c %a "$0"; stat -c %U "$0"; echo "$0"; sleep 0.5', args=["s3cret-argument"]))
    await gateway.deliver(order)
    result = await gateway.result(order.command_id)
    mode, owner, path = gateway.output(result.stdout).decode().split()
    assert (mode, owner) == ("600", pwd.getpwuid(os.geteuid()).pw_name)
    assert not Path(path).exists()  # noqa: ASYNC240 - nothing else runs here
    for file in gateway.state_dir.rglob("*"):
        assert not file.is_file() or b"s3cret-argument" not in file.read_bytes()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
async def test_run_as_user(gateway: ScriptedGateway, agent: AgentProcess) -> None:
    """A script runs as the named user, with that user's groups and home, and reads its own file."""
    agent.start()
    order = gateway.order(script('id -un; id -G; echo "$HOME $USER"; stat -c %U "$0"', run_as="nobody"))
    await gateway.deliver(order)
    result = await gateway.result(order.command_id)
    entry = pwd.getpwnam("nobody")
    expected = f"nobody\n{entry.pw_gid}\n{entry.pw_dir} nobody\nnobody\n"
    assert gateway.output(result.stdout).decode() == expected, gateway.output(result.stderr)


async def test_live_output(gateway: ScriptedGateway, agent: AgentProcess) -> None:
    """Output is seen while the script still runs."""
    agent.start()
    order = gateway.order(script("echo early; sleep 300"))
    await gateway.deliver(order)
    await gateway.until(lambda: gateway.live)
    assert (gateway.live[0].stream, gateway.live[0].offset, gateway.live[0].data) == ("stdout", 0, b"early\n")
    assert not gateway.heard["result"]
    await gateway.cancel(order.command_id)
    await gateway.result(order.command_id)


async def test_stop_interrupts_and_keeps_the_result(gateway: ScriptedGateway, agent: AgentProcess) -> None:
    """A stopped agent ends what runs as interrupted, says so when it starts again, and then goes on."""
    agent.start()
    gateway.silent.add("result")
    order, waiting = gateway.order(script("trap '' TERM; sleep 300")), gateway.order(script("echo later"))
    await gateway.deliver(order, waiting)
    await gateway.until(lambda: gateway.heard["started"])
    assert await asyncio.wait_for(agent.stop(), 25) == 0
    gateway.heard["result"].clear()
    gateway.silent.clear()
    agent.start()
    result = await gateway.result(order.command_id)
    assert (result.outcome, result.detail) == ("interrupted", "agent stopped")
    assert (await gateway.result(waiting.command_id)).outcome == "succeeded"


async def test_memory_at_rest(gateway: ScriptedGateway, agent: AgentProcess) -> None:
    """At rest, after work, the agent takes less than 50 MiB."""
    agent.start()
    orders = [gateway.order(script("echo x"), lane=f"lane-{n % 4}") for n in range(20)]
    await gateway.deliver(*orders)
    for order in orders:
        await gateway.result(order.command_id)
    await soon(lambda: psutil.Process(agent.pid).memory_info().rss < 50 * 1024 * 1024, 5)


def test_scripts_lie_apart_for_each_agent(place: Path) -> None:
    """Two agents on one machine do not share a place for bodies: each sweeps its own."""
    assert PLATFORM.scripts_dir(place / "a") != PLATFORM.scripts_dir(place / "b")
