"""Ending process trees: all that a script has started, and never anything else.

A process is a script's own if it descends from it, if it is in its session while the leader is there to prove whose
session it is, or if its environment carries the attempt's marker: that finds the ones that called setsid, lost their
parents, or were left over by a crash of the agent. Each is held by pid and start time together (psutil checks both
before it signals), so that a pid which was given to a stranger in the meantime is left alone.
"""

import contextlib
import os
from collections.abc import Iterable

import psutil

from agent.journal import Key
from agent.platforms import PLATFORM

MARKER = "FLEETLOG_COMMAND_ID"
ATTEMPT_MARKER = "FLEETLOG_ATTEMPT"
TERM_GRACE_S = 2.0
"""Between the polite signal and the other one."""
_KILL_WAIT_S = 1.0
_ROUNDS = 10
_GONE = (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess, OSError)


def markers(key: Key) -> dict[str, str]:
    """The variables by which an attempt's processes are found again."""
    return {MARKER: str(key.command_id), ATTEMPT_MARKER: str(key.attempt)}


def started_at(pid: int) -> float | None:
    """When a process started, by the system's account; None if it is gone."""
    try:
        return float(psutil.Process(pid).create_time())
    except _GONE:
        return None


def end_tree(key: Key, pid: int | None, pid_started: float | None, *, grace_s: float = TERM_GRACE_S) -> int:
    """End every process of an attempt: politely first, then by force, until a look around finds none.

    Args:
        key: the attempt, for its marker.
        pid: the process that was spawned, if known.
        pid_started: when that one started; without it, or if another process has that pid now, the pid is not used.
        grace_s: how long they have between the two signals.

    Returns:
        How many processes were signalled. Blocks; to be called in a thread.
    """
    known = _tree(key, pid, pid_started)
    signalled = len(known)
    _signal(known, "terminate")
    _gone, alive = psutil.wait_procs(known, timeout=grace_s)
    for _ in range(_ROUNDS):
        # Whoever forked while being signalled is found by descent from those still there, or by its marker.
        alive = list({*alive, *_tree(key, pid, pid_started), *_descendants(alive)})
        if not alive:
            break
        signalled += len(set(alive) - set(known))
        known = list({*known, *alive})
        _signal(alive, "kill")
        _gone, alive = psutil.wait_procs(alive, timeout=_KILL_WAIT_S)
    return signalled


def _tree(key: Key, pid: int | None, pid_started: float | None) -> list[psutil.Process]:
    leader = _leader(pid, pid_started)
    found = set() if leader is None else {leader, *_descendants([leader])}
    # An agent that a script has started carries that script's marker: it must not end itself when it recovers.
    ourselves = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    for process in psutil.process_iter():
        if process in found or process.pid in ourselves:
            continue
        in_session = leader is not None and PLATFORM.session_of(process.pid) == leader.pid
        if in_session or _marked(process, key):
            found |= {process, *_descendants([process])}
    return [process for process in found if process.pid not in ourselves and _alive(process)]


def _leader(pid: int | None, pid_started: float | None) -> psutil.Process | None:
    if pid is None or pid_started is None:
        return None
    try:
        process = psutil.Process(pid)
        return process if process.create_time() == pid_started else None
    except _GONE:
        return None


def _descendants(processes: Iterable[psutil.Process]) -> set[psutil.Process]:
    found: set[psutil.Process] = set()
    for process in processes:
        with contextlib.suppress(*_GONE):
            found.update(process.children(recursive=True))
    return found


def _marked(process: psutil.Process, key: Key) -> bool:
    try:
        environment = process.environ()
    except _GONE:
        return False
    return bool(environment.get(MARKER) == str(key.command_id) and environment.get(ATTEMPT_MARKER) == str(key.attempt))


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except _GONE:
        return False


def _signal(processes: Iterable[psutil.Process], how: str) -> None:
    for process in processes:
        with contextlib.suppress(*_GONE):
            getattr(process, how)()
