"""A rollout beside a run's commands: to both agents, one after the other, and what has to have come of it."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from tests.faults.stories import Findings, Story
from tests.faults.topology import AgentPart, Topology

SHARE = 1 / 3
"""Of the seeds, so many have one."""
LANE = "rollout"
LIFE_S = 3 * 24 * 3600


@dataclass(frozen=True)
class RolloutAsk:
    """One rollout that is to be asked for."""

    tag: str
    """Its name and its commands' reason."""
    at_s: float
    seconds: float
    exit_code: int
    in_waves: bool


@dataclass
class RolloutTold:
    """What was said of it."""

    ask: RolloutAsk
    rollout_id: str = ""
    """Said with a 2xx."""
    refused: bool = False
    """Said that it surely is not on record."""
    tries: int = 0
    answers: list[str] = field(default_factory=list)


def draw(seed: int, over_s: float) -> RolloutAsk | None:
    """From a source of its own, so that what else a seed draws is what it was."""
    rng = random.Random(f"{seed} rollout")
    if rng.random() > SHARE:
        return None
    return RolloutAsk(
        tag=f"seed {seed} rollout",
        at_s=rng.uniform(0, over_s),
        seconds=rng.choice((0, 0.1, 0.3)),
        exit_code=rng.choice((0, 0, 3)),
        in_waves=rng.random() < 0.7,
    )


def body(ask: RolloutAsk, topology: Topology, agents: Sequence[AgentPart]) -> dict[str, Any]:
    """As it is POSTed. Which file is an agent's own, its line learns by a placeholder."""
    files = " ".join(f"{agent.id}) f={topology.effects / f'{agent.name}.{LANE}'};;" for agent in agents)
    mark = '"$FLEETLOG_COMMAND_ID $FLEETLOG_ATTEMPT $(date +%s.%N)" >> "$f"'
    line = f'case "$AGENT" in {files} esac; echo B {mark}; sleep {ask.seconds}; echo E {mark}; exit {ask.exit_code}'
    return {
        "name": ask.tag,
        "reason": ask.tag,
        "target": {"include": {"agents": [str(agent.id) for agent in agents]}},
        "spec": {"kind": "run_shell", "shell": "sh", "line": line, "env": {"AGENT": "{{agent.id}}"}, "timeout_s": 60},
        "lane": LANE,
        "waves": [{"count": 1}] if ask.in_waves else [],
        "expires_in_s": LIFE_S,
    }


def on_record(topology: Topology, ask: RolloutAsk) -> dict[str, Counter[str]]:
    """The rollouts of that name, by their ids, with how often each kind of event was recorded of them."""
    query = (
        "SELECT originator_id::text, split_part(topic, '/', 1) FROM fleetlog.events WHERE originator_id IN ("
        " SELECT originator_id FROM fleetlog.events WHERE topic LIKE 'RolloutStarted/%%'"
        " AND convert_from(state, 'UTF8')::json ->> 'name' = %s)"
    )
    found: dict[str, Counter[str]] = {}
    with topology.database() as connection:
        for rollout_id, kind in connection.execute(query, [ask.tag]):
            found.setdefault(rollout_id, Counter())[kind] += 1
    return found


def ended(topology: Topology, told: RolloutTold | None) -> bool:
    """Whether it is over, as far as there is one."""
    return told is None or all(kinds["RolloutCompleted"] for kinds in on_record(topology, told.ask).values())


def check(
    found: Findings, stories: dict[str, Story], topology: Topology, agents: Sequence[AgentPart], told: RolloutTold
) -> None:
    """Look at it from the log and the read models."""
    rollouts = on_record(topology, told.ask)
    counts = {rollout_id: _counts(topology, rollout_id) for rollout_id in rollouts}
    commands = [story for story in stories.values() if story.tag == told.ask.tag]
    judge(found, told, rollouts, counts, commands, {str(agent.id): agent.name for agent in agents})


def judge(
    found: Findings,
    told: RolloutTold,
    rollouts: dict[str, Counter[str]],
    counts: dict[str, Counter[str]],
    commands: Sequence[Story],
    agents: dict[str, str],
) -> None:
    """Accepted, it is on record, once; each agent has its command, once; it ends; and its counts are what happened.

    Args:
        found: what else was found.
        told: what was said of it.
        rollouts: those of its name, with how often each kind of event is on record.
        counts: the agents of each, by state, as they are read.
        commands: those of its name.
        agents: names by id.
    """
    tag = told.ask.tag
    _started(found, rollouts, told)
    if rollouts:
        _given(found, commands, agents, tag)
    elif commands:
        found.wrong.append(f"{tag}: has commands, and was never started")
    for rollout_id, kinds in rollouts.items():
        if kinds["RolloutCompleted"] != 1:
            found.lost.append(f"{tag}: completed {kinds['RolloutCompleted']} times")
        if counts[rollout_id] != Counter(story.outcome for story in commands):
            found.wrong.append(f"{tag}: is counted as {dict(counts[rollout_id])}")


def _started(found: Findings, rollouts: dict[str, Counter[str]], told: RolloutTold) -> None:
    tag = told.ask.tag
    if len(rollouts) > 1:
        found.doubled.append(f"{tag}: started {len(rollouts)} times, answers {told.answers}")
    if told.rollout_id and list(rollouts) != [told.rollout_id]:
        found.lost.append(f"{tag}: {told.rollout_id} was accepted and is not on record")
    if told.refused and rollouts:
        found.wrong.append(f"{tag}: refused ({told.answers}), and on record")


def _given(found: Findings, commands: Sequence[Story], agents: dict[str, str], tag: str) -> None:
    given = Counter(story.agent_id for story in commands)
    for agent_id, name in agents.items():
        if given[agent_id] == 0:
            found.lost.append(f"{tag}: {name} was never given its command")
        if given[agent_id] > 1:
            found.doubled.append(f"{tag}: {name} was given {given[agent_id]} commands")


def _counts(topology: Topology, rollout_id: str) -> Counter[str]:
    with topology.database() as connection:
        rows = connection.execute(
            "SELECT state, count(*) FROM read.rollout_commands WHERE rollout_id = %s AND latest GROUP BY state",
            [UUID(rollout_id)],
        )
        return Counter(dict(rows.fetchall()))
