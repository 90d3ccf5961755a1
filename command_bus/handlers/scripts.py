"""Handlers for scripts, and the shelf that keeps the ones in use at hand."""

from collections import OrderedDict
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from command_bus.bus import Decision, id_answer
from command_bus.context import Caller, Clock, NewId
from command_bus.event_log import EventLog
from command_bus.handlers.clients import rename_claim
from command_bus.handlers.scope import match_version
from command_bus.intents.scripts import (
    ArchiveScript,
    CreateScript,
    FavourScript,
    RenameScript,
    RestoreScript,
    ReviseScript,
)
from command_bus.repository import load, load_existing
from domain.errors import NotFoundError
from domain.event import Change
from domain.favourites import Favourites
from domain.scripts import Script

SHELF_SIZE = 256
IN_USE = timedelta(days=30)
"""Who has run a script within so long counts on it."""


class ScriptReads(Protocol):
    """What decisions about scripts need of the read models."""

    async def others_run(self, script_id: UUID, actor: str, since: datetime) -> bool:
        """Whether others than somebody have run a script since then, or a rollout has, or is about to."""


class ScriptShelf:
    """Scripts, replayed once per version: a script of many long revisions is costly to replay for each command.

    Callers must not change what they are given.
    """

    def __init__(self, log: EventLog, size: int = SHELF_SIZE) -> None:
        self._log = log
        self._size = size
        self._known: OrderedDict[UUID, Script] = OrderedDict()

    async def get(self, script_id: UUID) -> Script:
        """The script as it stands now.

        Raises:
            NotFoundError: there is none with that id.
        """
        head = (await self._log.read_heads([script_id])).get(script_id)
        if head is None:
            raise NotFoundError(f"There is no script {script_id}.")
        script = self._known.get(script_id)
        if script is None or script.version != head.originator_version:
            script = await load_existing(self._log, Script, script_id, "script")
            self._known[script_id] = script
        self._known.move_to_end(script_id)
        while len(self._known) > self._size:
            self._known.popitem(last=False)
        return script


def owner_of(caller: Caller) -> str:
    """Whose favourites the caller's are: their person's, whichever way they come, or those of a key of nobody's."""
    return f"user:{caller.user_id}" if caller.user_id is not None else caller.actor


class ScriptHandlers:
    """Create, revise, rename, archive and restore; favour.

    Args:
        log: the event log.
        new_id: for new scripts.
        clock: now.
        reads: says who runs a script.
    """

    def __init__(self, log: EventLog, new_id: NewId, clock: Clock, reads: ScriptReads) -> None:
        self._log = log
        self._new_id = new_id
        self._clock = clock
        self._reads = reads

    async def create(self, intent: CreateScript, _caller: Caller, _stack: AsyncExitStack) -> Decision:
        script = Script(self._new_id())
        changes = [script.create(intent.name, intent.description), script.revise(intent.content.to_domain())]
        changes += script.file(intent.folder)
        changes += await rename_claim(self._log, "script", None, "", script.name, script.stream_id)
        return _decided(script, changes)

    async def revise(self, intent: ReviseScript, caller: Caller, _stack: AsyncExitStack) -> Decision:
        script = await self._script(intent.script_id, caller)
        await self._must_be_fresh(script, caller)
        return _decided(script, [script.revise(intent.content.to_domain())])

    async def rename(self, intent: RenameScript, caller: Caller, _stack: AsyncExitStack) -> Decision:
        script = await self._script(intent.script_id, caller)
        changes = [] if intent.folder is None else script.file(intent.folder)
        if intent.folder is not None and intent.name is None and intent.description is None:
            return _decided(script, changes)
        before = script.name
        if intent.name is not None and intent.name != before:
            # People choose what they run by its name.
            await self._must_be_fresh(script, caller)
        name = script.name if intent.name is None else intent.name
        description = script.description if intent.description is None else intent.description
        changes.append(script.rename(name, description))
        changes += await rename_claim(self._log, "script", None, before, script.name, script.stream_id)
        return _decided(script, changes)

    async def archive(self, intent: ArchiveScript, caller: Caller, _stack: AsyncExitStack) -> Decision:
        script = await self._script(intent.script_id, caller)
        await self._must_be_fresh(script, caller)
        return _decided(script, [script.archive()])

    async def restore(self, intent: RestoreScript, caller: Caller, _stack: AsyncExitStack) -> Decision:
        script = await self._script(intent.script_id, caller)
        await self._must_be_fresh(script, caller)
        return _decided(script, [script.restore()])

    async def favour(self, intent: FavourScript, caller: Caller, _stack: AsyncExitStack) -> Decision:
        await load_existing(self._log, Script, intent.script_id, "script")
        owner = owner_of(caller)
        own = await load(self._log, Favourites, Favourites.id_of(owner))
        change = own.keep if intent.favourite else own.leave
        return Decision(changes=change(owner, intent.script_id), answer=id_answer(intent.script_id))

    async def _must_be_fresh(self, script: Script, caller: Caller) -> None:
        """Have a person show themselves once more before what others run, or know it by, becomes something else.

        Whoever writes a script and tries it on a machine is not asked each time: only others' runs count, and rollouts.

        Raises:
            FreshProofNeededError: they are to do so first.
        """
        since = self._clock() - IN_USE
        if caller.stale and await self._reads.others_run(script.stream_id, caller.actor, since):
            caller.must_be_fresh()

    async def _script(self, script_id: UUID, caller: Caller) -> Script:
        script = await load_existing(self._log, Script, script_id, "script")
        match_version(script, caller)
        return script


def _decided(script: Script, changes: list[Change]) -> Decision:
    answer = id_answer(script.stream_id) | {"revision": len(script.revisions)}
    return Decision(changes=changes, answer=answer, subject=script)
