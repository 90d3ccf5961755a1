"""The scenes of the demonstration, in order; each plays through the public API and notes what it promised.

Scripts append a line to a file for each thing that they do, so that the files count what really happened, whatever the
log says of it.
"""

import os
import signal
import time
from collections.abc import Callable
from typing import Any

from gateways.local.demo_scoreboard import Scoreboard
from gateways.local.demo_stage import DemoAgent, Stage, StageError

Row = dict[str, Any]
Scene = tuple[str, Callable[[Stage, Scoreboard], None]]
WAIT_S = 20
FLEET = ("alpha", "beta", "gamma")
BATCH = 8
"""Commands for each agent while the gateway is killed."""


def enroll_the_fleet(stage: Stage, board: Scoreboard) -> None:
    """Three machines come in with one token; one of them is then left off."""
    client = stage.api.post("/clients", {"name": "Acme"})
    site = stage.api.post(f"/clients/{client['id']}/sites", {"name": "Berlin"})
    token = stage.api.post("/enrollment-tokens", {"site_id": site["id"], "max_uses": len(FLEET), "note": "demo"})
    for name in FLEET:
        stage.agents[name] = DemoAgent(stage, name)
        stage.agents[name].enroll(token["token"])
    for name in ("alpha", "beta"):
        stage.agents[name].start()
    online = sorted(agent["name"] for agent in stage.api.items("/agents") if agent["online"])
    board.check("agents enrolled", expected=len(FLEET), seen=len(list(stage.api.items("/agents"))))
    board.check("agents online, one is left off", expected="alpha, beta", seen=", ".join(online))


def run_with_live_output(stage: Stage, board: Scoreboard) -> None:
    """`fleetlog run alpha count` shows each line as the script prints it."""
    _script(stage, "count", 'for i in 1 2 3; do echo "line $i"; sleep 0.4; done; echo done >> "$EFFECTS/count"')
    stage.say("$ fleetlog run alpha count")
    came: list[tuple[float, str]] = []
    for line in stage.lines("run", "alpha", "count"):
        came.append((time.monotonic(), line))
        stage.say(f"  {line}")
    texts = [line for _, line in came]
    board.check("output of the script, and the exit code", expected="line 1, line 2, line 3, exit 0",
                seen=", ".join(texts))  # fmt: skip
    early = len(came) > 1 and came[-1][0] - came[0][0] > 0.4  # noqa: PLR2004 - one of the script's own pauses
    board.check("the first line was shown while the script still ran", expected="yes", seen="yes" if early else "no")
    board.check("times the script ran", expected=1, seen=len(stage.effect("count")))


def queue_for_a_machine_that_is_off(stage: Stage, board: Scoreboard) -> None:
    """A script and a shell line wait for gamma, in order, and one more is taken back; then gamma starts."""
    gamma = stage.agents["gamma"]
    script_id = _script(stage, "greet", 'echo script >> "$EFFECTS/gamma"; echo "greetings from $(hostname)"')
    line = {"kind": "run_shell", "shell": "sh", "line": f'echo line >> "{stage.effects}/gamma"'}
    unwanted = {"kind": "run_shell", "shell": "sh", "line": f'echo unwanted >> "{stage.effects}/gamma"'}
    waiting = [
        _queue(stage, gamma, {"kind": "run_script", "script_id": script_id}),
        _queue(stage, gamma, line),
    ]
    cancelled = _queue(stage, gamma, unwanted)
    _show(stage, "queue", "gamma")
    board.check("commands waiting for gamma", expected=3, seen=_pending(stage, gamma))
    stage.say(f"$ fleetlog cancel {cancelled}")
    stage.api.post(f"/commands/{cancelled}/cancel", {"reason": "changed our mind"})
    board.check("state of the command that was cancelled while queued", expected="cancelled",
                seen=_state(stage, cancelled))  # fmt: skip
    stage.say("gamma starts, and its queue drains")
    began = time.monotonic()
    gamma.start()
    states = [_ended(stage, command)["state"] for command in waiting]
    stage.say(f"  drained {time.monotonic() - began:.1f} s after the start")
    board.check("what waited for gamma", expected="succeeded, succeeded", seen=", ".join(states))
    board.check("what gamma did, in order, and nothing of what was cancelled", expected="script, line",
                seen=", ".join(stage.effect("gamma")))  # fmt: skip
    board.check("commands still waiting for gamma", expected=0, seen=_pending(stage, gamma))


def cut_by_its_timeout(stage: Stage, board: Scoreboard) -> None:
    """A script that would take a minute is ended after a second, with all that it started."""
    script_id = _script(
        stage,
        "too-slow",
        'echo begun >> "$EFFECTS/slow"; (sleep 3; echo child >> "$EFFECTS/slow") & sleep 60',
        timeout_s=1,
    )
    began = time.monotonic()
    command = _queue(stage, stage.agents["alpha"], {"kind": "run_script", "script_id": script_id})
    ended = _ended(stage, command)
    took = time.monotonic() - began
    board.check("a script over its timeout of 1 s", expected="timed_out", seen=ended["state"])
    board.check("it was ended within 10 s", expected="yes", seen="yes" if took < 10 else "no")  # noqa: PLR2004


def kill_an_agent(stage: Stage, board: Scoreboard) -> None:
    """`kill -9` of beta in the middle of a script: the log says so, and nobody runs it again unasked."""
    beta = stage.agents["beta"]
    script_id = _script(stage, "long", 'echo begun >> "$EFFECTS/beta"; sleep 4; echo finished >> "$EFFECTS/beta"')
    command = _queue(stage, beta, {"kind": "run_script", "script_id": script_id})
    stage.until(lambda: _state(stage, command) == "running" and stage.effect("beta") == ["begun"],
                "the script to run on beta")  # fmt: skip
    stage.say(f"$ kill -9 {beta.kill()}    # beta, in the middle of the script")
    stage.until(lambda: not beta.online, "the fleet to notice")
    board.check("state while beta is away", expected="running", seen=_state(stage, command))
    beta.start()
    ended = _ended(stage, command)
    for event in stage.api.items(f"/commands/{command}/events"):
        stage.say(f"  {event['text']}")
    board.check("what the log says of it once beta is back", expected="interrupted", seen=ended["state"])


def kill_the_gateway(stage: Stage, board: Scoreboard) -> None:
    """`kill -9` of the gateway with work in flight: nothing lost, nothing run twice."""
    script_id = _script(stage, "tick", 'echo "$TICK" >> "$EFFECTS/ticks"; sleep 0.15')
    ticks: dict[str, str] = {}

    def queue(numbers: range) -> None:
        for number in numbers:
            for name in FLEET:
                spec = {"kind": "run_script", "script_id": script_id, "env": {"TICK": f"{name}-{number}"}}
                ticks[f"{name}-{number}"] = _queue(stage, stage.agents[name], spec)

    before = stage.role_pid("gateway")
    if before is None:
        raise StageError("No gateway runs, so none can be killed.")
    queue(range(BATCH // 2))
    stage.until(lambda: len(stage.effect("ticks")) >= len(FLEET), "the first of them to run")
    os.kill(before, signal.SIGKILL)
    stage.say(f"$ kill -9 {before}    # the gateway, {len(stage.effect('ticks'))} of {len(ticks)} commands begun")
    queue(range(BATCH // 2, BATCH))
    states = [_ended(stage, command)["state"] for command in ticks.values()]
    board.check("commands that succeeded", expected=f"{len(ticks)} of {len(ticks)}",
                seen=f"{states.count('succeeded')} of {len(ticks)}")  # fmt: skip
    board.check("what ran, each once", expected=f"{len(ticks)} lines, {len(ticks)} different",
                seen=f"{len(stage.effect('ticks'))} lines, {len(set(stage.effect('ticks')))} different")  # fmt: skip
    stage.until(lambda: stage.role_pid("gateway") not in (None, before), "a new gateway")
    after = stage.role_pid("gateway")
    board.check("a new gateway took over", expected="yes", seen="yes" if after not in (None, before) else "no")


def rebuild_the_projections(stage: Stage, board: Scoreboard) -> None:
    """Every table that people read is dropped and made again from the events."""
    before = _everything(stage)
    for arguments in (("projections", "rebuild"), ("projections", "verify")):
        stage.say(f"$ fleetlog {' '.join(arguments)}")
        done = stage.fleetlog(*arguments)
        for line in done.stdout.decode(errors="replace").splitlines():
            stage.say(f"  {line}")
        board.check(f"exit code of `fleetlog {' '.join(arguments)}`", expected=0, seen=done.returncode)
    same = "identical" if _everything(stage) == before else "different"
    board.check(f"{len(before)} rows before and after the rebuild", expected="identical", seen=same)


def tell_the_story_of_one_machine(stage: Stage, board: Scoreboard) -> None:
    """All that ever happened to gamma."""
    _show(stage, "timeline", "gamma", "--limit", "60")
    story = [event["type"] for event in stage.api.items(f"/agents/{stage.agents['gamma'].id}/timeline")]
    kinds = ("AgentEnrolled", "CommandQueued", "CommandSucceeded", "CommandCancelled")
    board.check("gamma's timeline: enrolled, queued, succeeded, cancelled", expected=f"1, {3 + BATCH}, {2 + BATCH}, 1",
                seen=", ".join(str(story.count(kind)) for kind in kinds))  # fmt: skip


def look_at_the_machines(stage: Stage, board: Scoreboard) -> None:
    """What was cut short stayed cut short: nothing of it went on in the background since."""
    board.check("the script over its timeout did", expected="begun", seen=", ".join(stage.effect("slow")))
    board.check("the script that was interrupted did", expected="begun", seen=", ".join(stage.effect("beta")))
    board.check("the script with live output ran, in the end", expected=1, seen=len(stage.effect("count")))


SCENES: tuple[Scene, ...] = (
    ("Three machines enroll", enroll_the_fleet),
    ("A script on an online agent, with live output", run_with_live_output),
    ("Work for a machine that is off", queue_for_a_machine_that_is_off),
    ("A script cut by its timeout", cut_by_its_timeout),
    ("kill -9 of an agent in the middle of a script", kill_an_agent),
    ("kill -9 of the gateway with work in flight", kill_the_gateway),
    ("All projections rebuilt from the events", rebuild_the_projections),
    ("The timeline of one agent", tell_the_story_of_one_machine),
    ("What really happened on the machines", look_at_the_machines),
)


def _script(stage: Stage, name: str, body: str, **content: Any) -> str:
    revision = {"shell": "sh", "body": body, "env": {"EFFECTS": str(stage.effects)}} | content
    return str(stage.api.post("/scripts", {"name": name, "content": revision})["id"])


def _queue(stage: Stage, agent: DemoAgent, spec: Row) -> str:
    return str(stage.api.post("/commands", {"agent_id": agent.id, "spec": spec, "reason": "demo"})["id"])


def _ended(stage: Stage, command_id: str) -> Row:
    answer: Row = stage.api.get(f"/commands/{command_id}", wait_s=WAIT_S)
    return answer


def _state(stage: Stage, command_id: str) -> str:
    return str(stage.api.get(f"/commands/{command_id}")["state"])


def _pending(stage: Stage, agent: DemoAgent) -> int:
    return len(list(stage.api.items(f"/agents/{agent.id}/queue")))


def _everything(stage: Stage) -> list[Row]:
    """The rows that the rebuild must bring back; when an agent was last seen is telemetry, not a fact of the log."""
    lists = ("/clients", "/sites", "/agents", "/scripts", "/commands", "/enrollment-tokens", "/api-keys")
    rows = [row for path in lists for row in stage.api.items(path)]
    return [{name: value for name, value in row.items() if name != "last_seen_at"} for row in rows]


def _show(stage: Stage, *arguments: str) -> None:
    stage.say(f"$ fleetlog {' '.join(arguments)}")
    for line in stage.fleetlog(*arguments, check=True).stdout.decode(errors="replace").splitlines():
        stage.say(f"  {line}")
