"""Handlers for checks."""

from contextlib import AsyncExitStack
from typing import Any
from uuid import UUID

from command_bus.bus import Decision, id_answer
from command_bus.context import Caller, NewId
from command_bus.event_log import EventLog
from command_bus.handlers.limits import must_touch
from command_bus.handlers.rollouts import RolloutReads
from command_bus.handlers.scope import match_version
from command_bus.handlers.scripts import ScriptShelf
from command_bus.intents.checks import (
    ChangeCheck,
    DefineCheck,
    DisableCheck,
    EnableCheck,
    Line,
    PlanCheck,
    RemoveCheck,
    Script,
    permissions_of,
)
from command_bus.repository import load_existing
from domain.checks import (
    Check,
    CheckTerms,
    CpuCheck,
    DiskCheck,
    Kind,
    MemoryCheck,
    ReachCheck,
    ScriptCheck,
    ServiceCheck,
    ShellCheck,
)
from domain.errors import InvalidValueError, NotFoundError
from domain.event import Change
from domain.ids import ScriptId
from domain.permissions import Permission
from domain.placeholders import is_template
from domain.rollout_candidates import is_meant
from domain.scopes import Scope


class CheckHandlers:
    """Define, change, disable, enable, remove.

    Args:
        log: the event log.
        new_id: for new checks.
        reads: whom a target means.
    """

    def __init__(self, log: EventLog, new_id: NewId, reads: RolloutReads) -> None:
        self._log = log
        self._new_id = new_id
        self._reads = reads
        self._scripts = ScriptShelf(log)

    async def define(self, intent: DefineCheck, caller: Caller, _stack: AsyncExitStack) -> Decision:
        terms, _ = await self._drafted(intent, caller.scope)
        check = Check(self._new_id())
        defined = check.define(terms, caller.scope)
        _must_be_runnable(intent, caller, caller.scope)
        return Decision(changes=[defined], answer=id_answer(check.stream_id), subject=check)

    async def plan(self, intent: PlanCheck, caller: Caller, _stack: AsyncExitStack) -> Decision:
        _, targeted = await self._drafted(intent, caller.scope)
        return Decision(changes=[], answer={"targeted": targeted})

    async def change(self, intent: ChangeCheck, caller: Caller, _stack: AsyncExitStack) -> Decision:
        check = await self._visible(intent.check_id, caller)
        # It stays with those whose it was: who sees more does not give it more by mending it.
        scope = check.defined.scope
        terms, _ = await self._drafted(intent, scope)
        changed = check.define(terms, scope)
        _must_be_runnable(intent, caller, scope)
        return Decision(changes=[changed], answer=id_answer(check.stream_id), subject=check)

    async def disable(self, intent: DisableCheck, caller: Caller, _stack: AsyncExitStack) -> Decision:
        check = await self._visible(intent.check_id, caller)
        return _decided(check, check.disable(intent.reason))

    async def enable(self, intent: EnableCheck, caller: Caller, _stack: AsyncExitStack) -> Decision:
        check = await self._visible(intent.check_id, caller)
        needs = (Permission.CHECKS_MANAGE, *permissions_of(check.defined.terms.what))
        if not caller.asking(*needs).scope.includes(check.defined.scope):
            raise NotFoundError(f"There is no check {intent.check_id}.")
        return _decided(check, check.enable())

    async def remove(self, intent: RemoveCheck, caller: Caller, _stack: AsyncExitStack) -> Decision:
        check = await self._visible(intent.check_id, caller)
        return _decided(check, check.remove(intent.reason))

    async def _visible(self, check_id: UUID, caller: Caller) -> Check:
        check = await load_existing(self._log, Check, check_id, "check")
        if check.removed or not caller.scope.includes(check.defined.scope):
            raise NotFoundError(f"There is no check {check_id}.")
        match_version(check, caller)
        return check

    async def _drafted(self, intent: DefineCheck, scope: Scope) -> tuple[CheckTerms, int]:
        """What is asked for, and how many agents it means now."""
        terms = CheckTerms(
            name=intent.name,
            what=await self._pinned(intent),
            target=intent.target.to_domain(),
            interval_s=intent.interval_s,
            failures=intent.failures,
            recoveries=intent.recoveries,
            description=intent.description,
        ).cleaned()
        candidates, unknown, _ = await self._reads.candidates(terms.target, scope)
        if unknown:
            raise NotFoundError(f"target: there is no client, site or agent {unknown[0]}.")
        return terms, sum(is_meant(terms.target, one) for one in candidates)

    async def _pinned(self, intent: DefineCheck) -> Kind:
        """Its kind; the revision of a script is fixed: what is looked over now is what runs, whatever is revised."""
        what = intent.what
        match what:
            case Script():
                script = await self._scripts.get(what.script_id)
                number, revision = script.pinned(what.revision)
                args = tuple(what.args) if what.args is not None else None
                _must_be_plain(revision.body, *(args or revision.args), *revision.env.values())
                given = what.model_dump(exclude={"kind", "script_id", "revision", "args"})
                return ScriptCheck(script_id=ScriptId(what.script_id), revision=number, args=args, **_tuples(given))
            case Line():
                _must_be_plain(what.line)
                return ShellCheck(**_tuples(what.model_dump(exclude={"kind"})))
            case _:
                return _BARE[what.kind](**what.model_dump(exclude={"kind"}))


_BARE: dict[str, type[DiskCheck | CpuCheck | MemoryCheck | ServiceCheck | ReachCheck]] = {
    "disk": DiskCheck,
    "cpu": CpuCheck,
    "memory": MemoryCheck,
    "service": ServiceCheck,
    "reach": ReachCheck,
}


def _tuples(given: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


def _must_be_plain(*texts: str) -> None:
    """Refuse placeholders: a check runs for months where nobody resolves them, and its agent keeps what it runs."""
    if is_template(texts):
        raise InvalidValueError("what: a check takes no placeholders; have its script read what it needs by itself.")


def _must_be_runnable(intent: DefineCheck, caller: Caller, scope: Scope) -> None:
    """Of what runs something: as for a rollout that agents may join, which nobody can count beforehand.

    Raises:
        TooManyAgentsError, NeedsApprovalError, FreshProofNeededError: see `must_touch`.
    """
    if permissions_of(intent.what):
        must_touch(caller, intent.required(), None, scope)


def _decided(check: Check, change: Change) -> Decision:
    return Decision(changes=[change], answer=id_answer(check.stream_id), subject=check)
