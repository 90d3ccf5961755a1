"""The history of the fleet of `fleetlog demo --keep`: scripts with revisions, commands, three rollouts."""

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from gateways.cli.api import Api
from gateways.local.demo_checks import CHECKS
from gateways.local.demo_machines import Machine
from gateways.local.demo_work import REINDEX, RESTART, SCRIPTS, UPTIME

WAIT_S = 60.0
LOOK_S = 0.2
FINISHED = "Disk report, Linux servers"
PAUSED = "OpenSSL security update, Ubuntu"
RUNNING = "New time server, everywhere"
NOTES = {
    "db": "Restarted by hand only, and not before 22:00: the accounts are closed at night.",
    "dc": "The licence runs out in spring; ask before anything is installed.",
    "files": "Its second disk is on order.",
}
"""By the role of the first machine that has it."""
Row = dict[str, Any]


async def seed(api: Api, fleet: Sequence[Machine], ids: Mapping[str, str], off: Collection[str]) -> None:
    """Do what an administrator does in a week, and wait until what was to end has ended.

    Args:
        api: the administrator's session.
        fleet: all machines.
        ids: their agents' ids, by name.
        off: names of those that are switched off.

    Raises:
        TimeoutError: what was to be seen was not.
        RefusedError: the platform does not take it.
    """
    scripts = await asyncio.to_thread(_scripts, api)
    await asyncio.to_thread(_notes, api, fleet, ids)
    await asyncio.to_thread(_checks, api)
    ended = await asyncio.to_thread(_commands, api, fleet, ids, off, scripts)
    finished, paused = await asyncio.to_thread(_rollouts, api, scripts)
    for command in ended:
        await _until(api, f"/commands/{command}", lambda row: row["ended_at"] is not None)
    await _until(api, f"/rollouts/{finished}", lambda row: row["state"] == "completed")
    await _until(api, f"/rollouts/{paused}", lambda row: row["state"] == "paused")


async def _until(api: Api, path: str, holds: Callable[[Row], bool]) -> None:
    try:
        async with asyncio.timeout(WAIT_S):
            while not holds(await asyncio.to_thread(api.get, path)):  # noqa: ASYNC110 - the platform is another process
                await asyncio.sleep(LOOK_S)
    except TimeoutError as error:
        raise TimeoutError(f"Waited {WAIT_S:.0f} s in vain for {path} to come to its end.") from error


def _checks(api: Api) -> None:
    for check in CHECKS:
        api.post("/checks", check)


def _scripts(api: Api) -> dict[str, str]:
    ids = {}
    for script in SCRIPTS:
        first, *later = script.bodies
        made = api.post(
            "/scripts",
            {
                "name": script.name,
                "description": script.description,
                "folder": script.folder,
                "content": script.content(first),
            },
        )
        ids[script.name] = str(made["id"])
        for body in later:
            api.post(f"/scripts/{made['id']}/revisions", {"content": script.content(body)})
    return ids


def _notes(api: Api, fleet: Sequence[Machine], ids: Mapping[str, str]) -> None:
    """What the next administrator should know."""
    for role, text in NOTES.items():
        machine = next((one for one in fleet if one.model.role == role), None)
        if machine is not None:
            api.post(f"/agents/{ids[machine.name]}/notes", {"text": text})


def _commands(
    api: Api, fleet: Sequence[Machine], ids: Mapping[str, str], off: Collection[str], scripts: Mapping[str, str]
) -> list[str]:
    """Queue them; returns the ids of those that will end by themselves."""

    def queue(machine: Machine, spec: Row, reason: str) -> str:
        return str(api.post("/commands", {"agent_id": ids[machine.name], "spec": spec, "reason": reason})["id"])

    absent = [one for one in fleet if one.name in off]
    for one in absent:
        queue(one, {"kind": "collect_facts"}, "when it is back")
    for one in absent[::2]:
        queue(one, _line(UPTIME), "is it used at all?")
    for one in absent[:2]:
        unwanted = queue(one, _line(RESTART), "new certificate")
        api.post(f"/commands/{unwanted}/cancel", {"reason": "meant another machine"})
    there = [one for one in fleet if one.name not in off]
    return [queue(one, spec, reason) for one, spec, reason in _of_the_week(there, scripts)]


def _of_the_week(there: Sequence[Machine], scripts: Mapping[str, str]) -> Iterator[tuple[Machine, Row, str]]:
    """What is asked of whom, and why; some of it fails, and one is too slow."""

    def run(name: str, **more: Any) -> Row:
        return {"kind": "run_script", "script_id": scripts[name], **more}

    def being(*roles: str) -> list[Machine]:
        return [one for one in there if one.model.role in roles]

    for one in being("db", "files"):
        yield one, run("backup"), "before the update"
        yield one, run("disk-report", revision=1), ""
    for one in being("dc"):
        yield one, run("defender-status"), "weekly look"
    for one in (*being("web")[:6], *being("files")[:1]):
        yield one, _line(RESTART), "new certificate"
        yield one, _line(UPTIME), ""
    for one in being("db")[:1]:
        yield one, _line(REINDEX, timeout_s=2), "slow queries since Monday"


def _line(text: str, **more: Any) -> Row:
    return {"kind": "run_shell", "shell": "sh", "line": text, **more}


def _rollouts(api: Api, scripts: Mapping[str, str]) -> tuple[str, str]:
    """One that runs to its end, one that its guard stops, one that takes its time; returns the ids of the first two."""

    def start(name: str, script: str, include: Row, **more: Any) -> str:
        spec = {"kind": "run_script", "script_id": scripts[script]}
        body = {"name": name, "spec": spec, "target": {"include": include}, **more}
        return str(api.post("/rollouts", body)["id"])

    finished = start(
        FINISHED,
        "disk-report",
        {"everything": True, "platforms": ["linux"], "online": True, "machine_types": ["server"]},
        waves=[{"percent": 20}],
        reason="monthly report",
    )
    paused = start(
        PAUSED,
        "upgrade-openssl",
        {"everything": True, "filter": 'facts.os_id = "ubuntu"'},
        waves=[{"percent": 50}],
        guard={"max_failed_percent": 20, "min_ended": 3, "action": "pause"},
        limits={"in_flight": 3},
        reason="CVE of this week",
    )
    start(
        RUNNING,
        "set-time-server",
        {"everything": True},
        waves=[{"percent": 10, "finished_percent": 60}, {"percent": 30, "finished_percent": 60}],
        limits={"per_minute": 8},
        reason="the old one is switched off on Friday",
    )
    return finished, paused
