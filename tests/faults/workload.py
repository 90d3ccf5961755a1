"""What administrators ask for during one run, all of it drawn from the seed.

Each command appends a line to a file when it begins and another when it is done, so that what really happened on the
machine can be counted.
"""

import queue
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import httpx2

from tests.faults import rollout
from tests.faults.topology import AgentPart, Topology

NAMESPACE = UUID("7a0f3c52-4a52-4a8e-9a0c-4d1f0f0e5a11")
ASKERS = 4
TRIES = 3
LIFE = timedelta(days=3)


@dataclass(frozen=True)
class Ask:
    """One command that is to be asked for."""

    tag: str
    """Its `reason`: by it the command is found in the log, whatever became of the answer."""
    at_s: float
    agent: int
    lane: str
    priority: int
    seconds: float
    """How long it runs."""
    exit_code: int = 0
    output_bytes: int = 0
    timeout_s: int = 60
    starts_in_s: float | None = None
    expires_in_s: float | None = None
    attempts: int = 1
    cancel_after_s: float | None = None


@dataclass
class Told:
    """What was said of it."""

    ask: Ask
    command_id: str = ""
    """Said with a 2xx."""
    refused: bool = False
    """Said that it surely is not on record."""
    cancelled: bool = False
    """Said that it is cancelled, and not merely asked for."""
    not_before: datetime | None = None
    expires_at: datetime | None = None
    tries: int = 0
    answers: list[str] = field(default_factory=list)


def draw(rng: random.Random, seed: int, *, agents: int, commands: int, over_s: float) -> list[Ask]:
    """A workload."""
    asks = []
    for number in range(commands):
        timed_out = rng.random() < 0.05
        asks.append(
            Ask(
                tag=f"seed {seed} ask {number}",
                at_s=rng.uniform(0, over_s),
                agent=rng.randrange(agents),
                lane=rng.choice(("default", "default", "side")),
                priority=rng.choice((0, 5, 5, 5, 9)),
                seconds=5.0 if timed_out else rng.choice((0, 0, 0, 0.1, 0.3)),
                exit_code=rng.choice((0, 0, 0, 3)),
                output_bytes=rng.choice((0, 0, 10, 10, 10, 200_000)),
                timeout_s=1 if timed_out else 60,
                starts_in_s=rng.uniform(0.3, 2.0) if rng.random() < 0.15 else None,
                expires_in_s=rng.uniform(0.5, 3.0) if rng.random() < 0.12 else None,
                attempts=rng.choice((1, 1, 1, 2, 3)),
                cancel_after_s=rng.uniform(0.0, 1.5) if rng.random() < 0.15 else None,
            )
        )
    return sorted(asks, key=lambda ask: ask.at_s)


def effects(topology: Topology, agent: AgentPart, lane: str) -> Path:
    """Where commands of a lane of an agent leave their lines."""
    return topology.effects / f"{agent.name}.{lane}"


def line(ask: Ask, file: Path) -> str:
    """The shell line: a mark when it begins, its work, a mark when it is done."""
    mark = f'"$FLEETLOG_COMMAND_ID $FLEETLOG_ATTEMPT $(date +%s.%N)" >> {file}'
    output = f"head -c {ask.output_bytes} /dev/zero | tr '\\0' x; " if ask.output_bytes else ""
    return f"echo B {mark}; {output}sleep {ask.seconds}; echo E {mark}; exit {ask.exit_code}"


class Workload:
    """Asks for what was drawn, while whatever happens happens.

    Args:
        topology: where.
        agents: for whom.
        asks: what.
        seed: makes the idempotency keys.
        rolled: a rollout beside them.
    """

    def __init__(
        self,
        topology: Topology,
        agents: Sequence[AgentPart],
        asks: Sequence[Ask],
        seed: int,
        rolled: rollout.RolloutAsk | None = None,
    ) -> None:
        self.rolled = rollout.RolloutTold(rolled) if rolled is not None else None
        self._topology = topology
        self._agents = agents
        self.told = [Told(ask) for ask in asks]
        self._run = uuid5(NAMESPACE, f"{seed} {time.time_ns()}")
        self._due: queue.PriorityQueue[tuple[float, int, str, Told | rollout.RolloutTold | None]] = (
            queue.PriorityQueue()
        )
        self._threads = [threading.Thread(target=self._ask_on, name=f"asker-{n}") for n in range(ASKERS)]
        self._failures: list[BaseException] = []
        self._began = 0.0

    def start(self) -> None:
        self._began = time.monotonic()
        for number, told in enumerate(self.told):
            self._due.put((told.ask.at_s, number, "queue", told))
            if told.ask.cancel_after_s is not None:
                self._due.put((told.ask.at_s + told.ask.cancel_after_s, number, "cancel", told))
        if self.rolled is not None:
            self._due.put((self.rolled.ask.at_s, len(self.told), "roll out", self.rolled))
        for number in range(ASKERS):
            self._due.put((float("inf"), 10_000 + number, "end", None))
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        """Wait until everything was asked for; raise what went wrong with the asking itself."""
        for thread in self._threads:
            thread.join(120)
        if self._failures:
            raise self._failures[0]

    def _ask_on(self) -> None:
        try:
            with self._topology.client(timeout_s=4.0) as client:
                while True:
                    at_s, _, what, told = self._due.get()
                    if told is None:
                        return
                    time.sleep(max(0.0, self._began + at_s - time.monotonic()))
                    if isinstance(told, rollout.RolloutTold):
                        self._roll_out(client, told)
                    else:
                        (self._queue if what == "queue" else self._cancel)(client, told)
        except BaseException as error:  # noqa: BLE001 - raised by `finish`
            self._failures.append(error)

    def _queue(self, client: httpx2.Client, told: Told) -> None:
        ask = told.ask
        agent = self._agents[ask.agent]
        now = datetime.now(UTC)
        told.not_before = now + timedelta(seconds=ask.starts_in_s) if ask.starts_in_s is not None else None
        told.expires_at = now + (timedelta(seconds=ask.expires_in_s) if ask.expires_in_s is not None else LIFE)
        if told.not_before is not None:
            told.expires_at += timedelta(seconds=ask.starts_in_s or 0)
        body: dict[str, Any] = {
            "agent_id": str(agent.id),
            "spec": {
                "kind": "run_shell",
                "shell": "sh",
                "line": line(ask, effects(self._topology, agent, ask.lane)),
                "timeout_s": ask.timeout_s,
            },
            "lane": ask.lane,
            "priority": ask.priority,
            "not_before": told.not_before.isoformat() if told.not_before is not None else None,
            "expires_at": told.expires_at.isoformat(),
            "retry": {
                "max_attempts": ask.attempts,
                "on": ["failed", "timed_out", "interrupted"] if ask.attempts > 1 else [],
                "backoff_s": 0,
            },
            "reason": ask.tag,
        }
        answer = self._send(client, "/commands", body, told, str(uuid5(self._run, ask.tag)))
        if answer is None:
            return
        if answer.is_success:
            told.command_id = answer.json()["id"]
        else:
            # Of anything else it may be on record all the same: the log shall say.
            told.refused = told.tries == 1 and answer.json().get("code") != "outcome_unknown"

    def _cancel(self, client: httpx2.Client, told: Told) -> None:
        if not told.command_id:
            return
        answer = self._send(
            client, f"/commands/{told.command_id}/cancel", {}, told, str(uuid5(self._run, "cancel " + told.ask.tag))
        )
        if answer is not None and answer.is_success:
            told.cancelled = answer.json()["state"] == "cancelled"

    def _roll_out(self, client: httpx2.Client, told: rollout.RolloutTold) -> None:
        body = rollout.body(told.ask, self._topology, self._agents)
        answer = self._send(client, "/rollouts", body, told, str(uuid5(self._run, told.ask.tag)))
        if answer is None:
            return
        if answer.is_success:
            told.rollout_id = answer.json()["id"]
        else:
            told.refused = told.tries == 1 and answer.json().get("code") != "outcome_unknown"

    @staticmethod
    def _send(
        client: httpx2.Client, path: str, body: dict[str, Any], told: Told | rollout.RolloutTold, key: str
    ) -> httpx2.Response | None:
        """The answer; None where there was none. What may not have been heard is said again, under the same key."""
        for _ in range(TRIES):
            told.tries += 1
            try:
                answer = client.post(path, json=body, headers={"Idempotency-Key": key})
            except httpx2.HTTPError as error:
                told.answers.append(type(error).__name__)
                continue
            told.answers.append(str(answer.status_code))
            if answer.status_code != 503:
                return answer
        return None
