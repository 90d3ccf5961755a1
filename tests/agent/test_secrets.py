"""A secret that is handed over shows nowhere on the machine: not in its processes, on its disk or in what it says."""

import json
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest

from agent.identity import AgentKey
from schema import wire
from schema.sealing import seal
from tests.agent.scripted import AgentProcess, ScriptedGateway, script
from tests.agent.test_runs import soon

PYTHON, POWERSHELL = {"shell": "python"}, {"shell": "powershell"}
VALUE = 'Tr0ub4dor\'&3 "$(id)"'


def sealed(gateway: ScriptedGateway, work: wire.ScriptWork, secrets: list[str], **fields: Any) -> wire.Order:
    """An order as the gateway makes it of a command with secrets."""
    command_id = fields.pop("command_id", uuid4())
    name = wire.sealed_name(fields.pop("of", gateway.agent_id), command_id, 1)
    public = AgentKey.load_or_create(gateway.state_dir).public_raw
    inner = wire.encode(wire.SecretWork(work=work, secrets=secrets, hidden_args=bool(work.args)))
    return gateway.order(wire.SealedWork(sealed=seal(public, inner, name)), command_id=command_id, **fields)


def on_disk(*places: Path) -> list[str]:
    """Files that hold the secret as it is."""
    files = [file for place in places for file in place.rglob("*") if file.is_file()]
    return [str(file) for file in files if VALUE.encode() in file.read_bytes()]


IN_SH = """
printf '%s\\n' "$1" "$2" "$DB"
while [ ! -e "$GO" ]; do sleep 0.02; done
printf '%s' "$1" >&2
exit $#
"""
IN_PYTHON = """from __future__ import annotations
import os, sys, time
print(*sys.argv[1:], os.environ['DB'], sep='\\n', flush=True)
while not os.path.exists(os.environ['GO']): time.sleep(.02)
sys.stderr.write(sys.argv[1])
sys.exit(len(sys.argv) - 1)
"""


@pytest.mark.parametrize(("shell", "body"), [("sh", IN_SH), ("python", IN_PYTHON)])
async def test_a_secret_shows_nowhere(
    gateway: ScriptedGateway, agent: AgentProcess, place: Path, shell: str, body: str
) -> None:
    """Its script gets it as argument and variable; the list of processes, the disk, live output and result do not."""
    go = place / "go"
    agent.start()
    work = script(
        body,
        shell=shell,
        args=[VALUE, f"--p={VALUE}"],
        env={"DB": VALUE, "GO": str(go)},
    )
    order = sealed(gateway, work, [VALUE])
    waits = sealed(gateway, script("exit 0", env={"DB": VALUE}), [VALUE])
    assert [one.status for one in await gateway.deliver(order, waits)] == ["accepted", "accepted"]
    await gateway.until(lambda: gateway.live)
    children = psutil.Process(agent.pid).children(recursive=True)
    assert children
    for child in children:
        assert VALUE not in " ".join(child.cmdline())
    # The second one waits in the journal meanwhile.
    assert on_disk(gateway.state_dir) == []
    go.touch()
    result = await gateway.result(order.command_id)
    assert (result.outcome, result.exit_code) == ("failed", 2)
    assert gateway.output(result.stdout) == b"********\n--p=********\n********\n"
    assert gateway.output(result.stderr) == result.stderr.tail == b"********"
    assert (await gateway.result(waits.command_id)).outcome == "succeeded"
    said = b"".join(piece.data for piece in gateway.live if piece.command_id == order.command_id)
    assert VALUE.encode() not in said
    await agent.stop()
    assert on_disk(gateway.state_dir, agent.log.parent) == []


@pytest.fixture
def cores() -> Iterator[None]:
    """Crashes leave cores, as far as this machine lets them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    if hard == 0:
        pytest.skip("no process of this machine may leave a core")
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


@pytest.mark.usefixtures("cores")
async def test_a_crash_leaves_no_core(gateway: ScriptedGateway, agent: AgentProcess) -> None:
    """Neither the agent's, which would hold opened secrets, nor a script's, whose variables do."""
    agent.start()
    order = sealed(gateway, script("ulimit -Sc; echo $DB >/dev/null", env={"DB": VALUE}), [VALUE])
    await gateway.deliver(order)
    assert gateway.output((await gateway.result(order.command_id)).stdout) == b"0\n"
    assert psutil.Process(agent.pid).rlimit(psutil.RLIMIT_CORE)[0] == 0


async def test_a_secret_in_pieces_is_masked_in_a_large_output(gateway: ScriptedGateway, agent: AgentProcess) -> None:
    """Byte by byte and across the borders of what is read at once: it is masked before it is on disk or sent."""
    agent.start()
    body = (
        "import os, sys\nfor _ in range(3000): sys.stdout.write(os.environ['DB'] + 'x' * 41)\nsys.stdout.flush()\n"
        "for byte in os.environ['DB'].encode(): os.write(1, bytes([byte]))\n"
    )
    order = sealed(gateway, script(body, env={"DB": VALUE}, **PYTHON), [VALUE])
    await gateway.deliver(order)
    result = await gateway.result(order.command_id)
    assert gateway.output(result.stdout) == (b"********" + b"x" * 41) * 3000 + b"********"


async def test_what_was_sealed_for_another_is_refused(gateway: ScriptedGateway, agent: AgentProcess) -> None:
    """Another agent's work, another command's, a secret that the shell would show: each is rejected for its reason."""
    agent.start()
    good = script("exit 0", env={"DB": VALUE})
    other = sealed(gateway, good, [VALUE], of=uuid4())
    moved = gateway.order(sealed(gateway, good, [VALUE]).work)
    shown = sealed(gateway, script("param($p)", args=[VALUE], **POWERSHELL), [VALUE])
    answers = await gateway.deliver(other, moved, shown)
    assert [one.code for one in answers] == ["not_for_this_agent", "not_for_this_agent", "secret_in_argument"]
    assert VALUE not in json.dumps([one.detail for one in answers])


async def test_a_killed_agent_leaves_no_secret_behind(gateway: ScriptedGateway, agent: AgentProcess) -> None:
    """Killed in the middle of a script that holds one: nothing on its disk has it after the next start."""
    agent.start()
    order = sealed(gateway, script("echo up; sleep 60", args=[VALUE], env={"DB": VALUE}), [VALUE])
    await gateway.deliver(order)
    await gateway.until(lambda: gateway.live)
    await agent.kill()
    agent.start()
    assert (await gateway.result(order.command_id)).outcome == "interrupted"
    await soon(lambda: not on_disk(gateway.state_dir))
    assert on_disk(gateway.state_dir, agent.log.parent) == []
