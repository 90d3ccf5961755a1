"""Holds one run against the invariants, from three sides that know nothing of each other.

    the log       read with plain SQL and JSON, by none of the code that wrote it
    the journals  of the agents, read with plain SQLite
    the effects   lines that the commands left in files: what really happened, and how often

What each finding is called: ``lost`` (accepted, and not on record, without an ending or without its result),
``doubled`` (recorded, run or ended more than once), ``wrong`` (an ending or a moment that the other sides contradict).
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from tests.faults import rollout
from tests.faults.stories import ENDINGS, Event, Findings, Story
from tests.faults.topology import AgentPart, Topology
from tests.faults.workload import Told

SLACK = timedelta(seconds=5)
"""Between the agent's look at an order's expiry and the first line of its script, on a machine that is busy. What it
says itself of the moment is held to the expiry without any."""
Key = tuple[str, int]
"""One attempt: command and number."""


@dataclass
class Runs:
    """What the effects say."""

    begun: dict[Key, list[datetime]] = field(default_factory=lambda: defaultdict(list))
    done: dict[Key, list[datetime]] = field(default_factory=lambda: defaultdict(list))
    lanes: dict[tuple[str, str], list[tuple[str, Key]]] = field(default_factory=lambda: defaultdict(list))
    """By agent and lane: marks in the order in which they were written."""


def read_log(topology: Topology, agents: Sequence[AgentPart]) -> dict[str, Story]:
    """The stories of all commands of these agents."""
    query = (
        "SELECT originator_id::text, agent_id::text, notification_id, originator_version, topic, recorded_at,"
        " convert_from(state, 'UTF8') FROM fleetlog.events WHERE originator_id IN ("
        " SELECT originator_id FROM fleetlog.events WHERE topic LIKE 'CommandQueued/%%' AND agent_id = ANY(%s::uuid[]))"
        " ORDER BY notification_id"
    )
    stories: dict[str, Story] = {}
    with topology.database() as connection:
        for command_id, agent_id, position, version, topic, at, state in connection.execute(
            query, [[agent.id for agent in agents]]
        ):
            event = Event(position, version, topic.partition("/")[0], at, json.loads(state))
            stories.setdefault(command_id, Story(command_id, agent_id, [])).events.append(event)
    return stories


def read_strays(topology: Topology, agents: Sequence[AgentPart]) -> list[Key]:
    """Attempts whose results are on record although their commands are not."""
    query = (
        "SELECT convert_from(state, 'UTF8') FROM fleetlog.events"
        " WHERE topic LIKE 'StrayResultRecorded/%%' AND agent_id = ANY(%s::uuid[])"
    )
    with topology.database() as connection:
        bodies = [json.loads(state) for (state,) in connection.execute(query, [[agent.id for agent in agents]])]
    return [(body["command_id"], body["attempt"]) for body in bodies]


def read_runs(topology: Topology, agents: Sequence[AgentPart]) -> Runs:
    """What the agents' commands have left."""
    runs = Runs()
    for agent in agents:
        for file in sorted(topology.effects.glob(f"{agent.name}.*")):
            for text in file.read_text().splitlines():
                mark, command_id, attempt, at_s = text.split()
                key = (command_id, int(attempt))
                (runs.begun if mark == "B" else runs.done)[key].append(datetime.fromtimestamp(float(at_s), UTC))
                runs.lanes[agent.name, file.suffix[1:]].append((mark, key))
    return runs


def settled(
    topology: Topology, agents: Sequence[AgentPart], told: Sequence[Told], rolled: rollout.RolloutTold | None = None
) -> bool:
    """Whether everything has come to its end: every command in the log, every result out of the journals."""
    if not rollout.ended(topology, rolled):
        return False
    stories = read_log(topology, agents)
    if any(not story.endings for story in stories.values()):
        return False
    if any(one.command_id and one.command_id not in stories for one in told):
        return True  # it will not come any more: the checks say so
    return not any(agent.journal()["entries"] for agent in agents)


def check(
    topology: Topology,
    agents: Sequence[AgentPart],
    told: Sequence[Told],
    rolled: rollout.RolloutTold | None = None,
    *,
    paused: bool,
    misled: bool,
) -> Findings:
    """Look from all sides.

    Args:
        topology: where.
        agents: all of this run.
        told: what was said to those who asked.
        rolled: the same of its rollout, if there was one.
        paused: agents were stopped or starved, so that moments between their checks and their deeds mean nothing.
        misled: the server's own clock was wrong for a while, and what is too early or too late goes by that clock.
    """
    stories = read_log(topology, agents)
    runs = read_runs(topology, agents)
    found = Findings(commands=len(stories), runs=sum(map(len, runs.begun.values())))
    _asked(found, stories, told)
    if rolled is not None:
        rollout.check(found, stories, topology, agents, rolled)
    for story in stories.values():
        _one_ending(found, story)
        _once(found, story, runs)
        _has_result(found, story)
        if not misled:
            _in_time(found, story, runs, paused=paused)
        _given_up(found, story, runs)
    _none_unheard_of(found, stories, runs)
    _in_order(found, stories, runs, {str(agent.id): agent.name for agent in agents})
    _journals(found, stories, agents)
    _read_models(found, stories, topology)
    return found


def check_restored(topology: Topology, agents: Sequence[AgentPart]) -> Findings:
    """Look from all sides at a log that was restored from a backup made in the middle of a run.

    What was asked for after the backup may be gone, but what was done on a machine may not.
    """
    stories = read_log(topology, agents)
    runs = read_runs(topology, agents)
    strays = read_strays(topology, agents)
    found = Findings(commands=len(stories), runs=sum(map(len, runs.begun.values())))
    for story in stories.values():
        _one_ending(found, story)
        _once(found, story, runs)
        _has_result(found, story)
    for key, times in Counter(strays).items():
        if times > 1:
            found.doubled.append(f"{key} is on record as a stray {times} times")
        if key[0] in stories:
            found.wrong.append(f"{key} is a stray, and its command is on record")
    for key, moments in runs.begun.items():
        if key[0] not in stories and key not in strays:
            found.lost.append(f"{key} ran, and the log has no trace of it")
        if key[0] not in stories and len(moments) > 1:
            found.doubled.append(f"{key} ran {len(moments)} times")
    for agent in agents:
        found.lost.extend(f"{agent.name} still holds {key}" for key in agent.journal()["entries"])
    _read_models(found, stories, topology)
    return found


def _asked(found: Findings, stories: dict[str, Story], told: Sequence[Told]) -> None:
    """Invariant 1: what was accepted is on record, once; what was refused is not; what was given up has ended so."""
    by_tag: dict[str, list[Story]] = defaultdict(list)
    for story in stories.values():
        by_tag[story.tag].append(story)
    for one in told:
        on_record = by_tag.get(one.ask.tag, [])
        if len(on_record) > 1:
            found.doubled.append(f"{one.ask.tag}: queued {len(on_record)} times, answers {one.answers}")
        if one.command_id and [story.command_id for story in on_record] != [one.command_id]:
            found.lost.append(f"{one.ask.tag}: {one.command_id} was accepted and is not on record")
        if one.cancelled and any(event.kind != "CommandCancelled" for story in on_record for event in story.endings):
            found.wrong.append(f"{one.ask.tag}: said to be cancelled, and ended otherwise")
        if one.refused and on_record:
            found.wrong.append(f"{one.ask.tag}: refused ({one.answers}), and on record")


def _one_ending(found: Findings, story: Story) -> None:
    """Invariant 2: one ending, and after it nothing but late results."""
    if not story.endings:
        found.lost.append(f"{_name(story)} never ended")
        return
    if len(story.endings) > 1:
        found.doubled.append(f"{_name(story)} ended {len(story.endings)} times")
    after = [event.kind for event in story.events if event.position > story.endings[0].position]
    if set(after) - {"LateResultRecorded"}:
        found.wrong.append(f"{_name(story)} went on after its ending")
    if [event.version for event in story.events] != list(range(1, len(story.events) + 1)):
        found.wrong.append(f"{_name(story)} has holes")


def _once(found: Findings, story: Story, runs: Runs) -> None:
    """Invariants 3 and 6: each attempt ran once at the most, and what ran is on record as what it was."""
    outcomes = story.outcomes()
    numbers = {number for command_id, number in runs.begun if command_id == story.command_id} | outcomes.keys()
    for number in sorted(numbers):
        key = (story.command_id, number)
        begun, done = len(runs.begun.get(key, ())), len(runs.done.get(key, ()))
        if begun > 1 or done > 1:
            found.doubled.append(f"{_name(story)} attempt {number} ran {begun} times")
        said = outcomes.get(number, [])
        if len(said) > 1:
            found.doubled.append(f"{_name(story)} attempt {number} came to {[outcome for outcome, _ in said]}")
        if not said:
            found.lost.append(f"{_name(story)} attempt {number} ran, and its result is not on record")
            continue
        outcome, result = said[0]
        wants = 3 if outcome == "failed" else 0
        if outcome in {"succeeded", "failed"} and (begun, done) != (1, 1):
            found.wrong.append(f"{_name(story)} attempt {number} {outcome}, and left {begun} and {done} lines")
        if outcome in {"succeeded", "failed"} and result.get("exit_code") != wants:
            found.wrong.append(f"{_name(story)} attempt {number} {outcome} with exit code {result.get('exit_code')}")
        if outcome == "expired" and begun:
            found.wrong.append(f"{_name(story)} attempt {number} expired on its machine, and ran")


def _has_result(found: Findings, story: Story) -> None:
    """Invariant 6, from the ending's side; and nothing that was asked for here is to be refused."""
    outcomes = story.outcomes()
    for ending in story.endings[:1]:
        if (
            ending.kind in {"CommandSucceeded", "CommandFailed", "CommandTimedOut"}
            and not outcomes[ending.body["attempt"]]
        ):
            found.wrong.append(f"{_name(story)} has no result")
        if ending.kind == "CommandRejected":
            found.wrong.append(f"{_name(story)} was rejected: {ending.body}")


def _in_time(found: Findings, story: Story, runs: Runs, *, paused: bool) -> None:
    """Invariant 5: nothing begins before its time, after its expiry, or after its cancellation was acknowledged."""
    not_before = _time(story.queued.get("not_before"))
    expires_at = _time(story.queued["expires_at"])
    assert expires_at is not None
    for (command_id, number), moments in runs.begun.items():
        if command_id != story.command_id:
            continue
        if not_before is not None and min(moments) < not_before:
            found.wrong.append(f"{_name(story)} attempt {number} began before its time")
        if not paused and max(moments) > expires_at + SLACK:
            found.wrong.append(f"{_name(story)} attempt {number} began {max(moments) - expires_at} after its expiry")
        for _outcome, result in story.outcomes().get(number, []):
            started_at = _time(result.get("started_at"))
            if started_at is not None and started_at >= expires_at:
                found.wrong.append(f"{_name(story)} attempt {number} was begun after its expiry")


def _given_up(found: Findings, story: Story, runs: Runs) -> None:
    """Invariant 5: what was cancelled without the agent's having run it never ran, and never will."""
    for ending in story.endings[:1]:
        # Ended without the agent's having run it: then it never did, nor will it.
        never = ending.kind == "CommandCancelled" and not ending.body.get("result")
        attempts = [number for command_id, number in runs.begun if command_id == story.command_id]
        if never and story.attempt in attempts:
            found.wrong.append(f"{_name(story)} was cancelled, and ran")


def _none_unheard_of(found: Findings, stories: dict[str, Story], runs: Runs) -> None:
    for command_id, number in runs.begun:
        if command_id not in stories:
            found.lost.append(f"{command_id} attempt {number} ran, and the log does not know it")


def _in_order(found: Findings, stories: dict[str, Story], runs: Runs, names: dict[str, str]) -> None:
    """Invariant 4: one at a time in each lane, and never past one that was there already and comes before it."""
    for place, marks in runs.lanes.items():
        open_key: Key | None = None
        for mark, key in marks:
            if mark == "B":
                open_key = key
            elif key != open_key:
                found.wrong.append(f"{place}: {key} was done while {open_key} ran")
    for story in stories.values():
        for other in stories.values():
            if (other.agent_id, other.lane) == (story.agent_id, story.lane) and other.key > story.key:
                found.wrong.extend(
                    f"{names[story.agent_id]}: {_name(other)} overtook {_name(story)}"
                    for number, since in _waits(story)
                    if since < other.events[0].position and _overtaken((story.command_id, number), other, runs)
                )


def _waits(story: Story) -> Iterable[tuple[int, int]]:
    """From which position on each attempt was on the agent's disk for certain."""
    return [(event.body["attempt"], event.position) for event in story.events if event.kind == "CommandDelivered"]


def _overtaken(key: Key, other: Story, runs: Runs) -> bool:
    """Whether a command that was queued when this attempt was there already, and comes after it, began before it."""
    begun = runs.begun.get(key)
    others = [moments for (command_id, _), moments in runs.begun.items() if command_id == other.command_id]
    return begun is not None and any(min(moments) < min(begun) for moments in others)


def _journals(found: Findings, stories: dict[str, Story], agents: Sequence[AgentPart]) -> None:
    """Invariants 6 and 8: nothing is left unsaid, and each agent has had its own commands alone."""
    for agent in agents:
        journal = agent.journal()
        for command_id, attempt in journal["entries"]:
            found.lost.append(f"{agent.name} still holds {command_id} attempt {attempt}")
        for command_id, attempt in journal["finished"]:
            story = stories.get(str(command_id))
            if story is None or story.agent_id != str(agent.id):
                found.wrong.append(f"{agent.name} has had {command_id}, which is not its own")
            elif attempt > story.attempt:
                found.wrong.append(f"{agent.name} has had attempt {attempt} of {_name(story)}")


def _read_models(found: Findings, stories: dict[str, Story], topology: Topology) -> None:
    """Invariant 7, as far as one run goes: the list says what the log says, and no queue holds an ended command."""
    with topology.database() as connection:
        rows = {
            str(command_id): (state, attempt)
            for command_id, state, attempt in connection.execute(
                "SELECT command_id, state, attempt FROM read.commands WHERE command_id = ANY(%s::uuid[])",
                [[UUID(command_id) for command_id in stories]],
            )
        }
        (pending,) = connection.execute(
            "SELECT count(*) FROM read.pending WHERE command_id = ANY(%s::uuid[])",
            [[UUID(command_id) for command_id in stories]],
        ).fetchone() or (0,)
    if pending != sum(not story.endings for story in stories.values()):
        found.wrong.append(f"the queues hold {pending} commands that have ended")
    for story in stories.values():
        ending = ENDINGS[story.endings[0].kind] if story.endings else None
        if ending is not None and rows.get(story.command_id, ("missing",))[0] != ending:
            found.wrong.append(f"{_name(story)} is listed as {rows.get(story.command_id)}")


def behind(topology: Topology) -> bool:
    """Whether a projection has yet to see the end of the log."""
    with topology.database() as connection:
        (head,) = connection.execute("SELECT coalesce(max(notification_id), 0) FROM fleetlog.events").fetchone() or (0,)
        (position,) = connection.execute(
            "SELECT min(position) FROM read.tracking WHERE projection <> 'pending'"  # that one is never behind
        ).fetchone() or (0,)
    return bool(position < head)


def _name(story: Story) -> str:
    kinds = Counter(event.kind.removeprefix("Command") for event in story.events)
    return (
        f"{story.tag} {story.command_id} ({', '.join(f'{kind} x{n}' if n > 1 else kind for kind, n in kinds.items())})"
    )


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
