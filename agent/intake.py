"""What the server sends: orders and cancellations, checked, journaled, and only then answered."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from uuid import UUID

import msgspec

from agent.clock import ServerClock
from agent.errors import JournalFullError, WorkRefusedError
from agent.identity import Identity
from agent.journal import Journal, Key, Waiting
from agent.opening import Opened, Opener
from agent.reading import Named, read_delivery, refusal
from agent.refusals import Refusals
from agent.steps import Steps
from agent.threads import OneThread
from schema import wire
from schema.checks import ChecksChanged

log = logging.getLogger("fleetlog.agent.intake")

OLD_AFTER = timedelta(minutes=5)
"""The server repeats an order in a delivery that it signs anew: one so old that names what is known here is none of its
repetitions."""


class Intake:
    """Answers the server's requests.

    Args:
        identity: whose orders to take, and whose signature to trust; asked each time, for keys take over from others.
        journal: where they are written down.
        disk: the journal's thread.
        clock: learns from what is signed.
        opener: opens what is sealed for this agent.
        refusals: notes what came in the server's name and is not done.
        check: raises WorkRefusedError for work that this machine can never do.
        has_room: whether the disk has room for what running orders leaves behind.
        on_accepted: told of what waits now.
        on_ended: told of an attempt that the server takes to be open although it has ended: its result is wanted.
        on_cancel: told to end what runs.
        on_unknown_key: told that the server signs by a key that this agent has not heard of.
        on_checks_changed: told that the server has other checks for this agent.
        who: which machine and run this is.
        on_watch: told that somebody watches a command's output; says whether it runs here.
        steps: see `agent.steps`.
    """

    def __init__(
        self,
        identity: Callable[[], Identity],
        journal: Journal,
        disk: OneThread,
        clock: ServerClock,
        opener: Opener,
        refusals: Refusals,
        *,
        check: Callable[[Opened], None],
        has_room: Callable[[], bool],
        on_accepted: Callable[[Sequence[Waiting]], None],
        on_ended: Callable[[Key], None],
        on_cancel: Callable[[UUID], None],
        on_watch: Callable[[UUID], bool],
        on_unknown_key: Callable[[], None],
        on_checks_changed: Callable[[], None],
        who: wire.Instance,
        steps: Steps,
    ) -> None:
        self._identity = identity
        self._who = who
        self._journal = journal
        self._disk = disk
        self._clock = clock
        self._opener = opener
        self._refusals = refusals
        self._check = check
        self._has_room = has_room
        self._on_accepted = on_accepted
        self._on_ended = on_ended
        self._on_cancel = on_cancel
        self._on_watch = on_watch
        self._on_unknown_key = on_unknown_key
        self._on_checks_changed = on_checks_changed
        self._steps = steps
        self._closed = False

    def close(self) -> None:
        """Take no more orders: they are answered with ``busy``."""
        self._closed = True

    async def answer(self, data: bytes) -> bytes:
        """The answer to one request; never an exception for what was sent, however wrong."""
        try:
            message = wire.decode_downlink(data)
        except msgspec.MsgspecError as error:
            return wire.encode(refusal(data, error))
        answering: Awaitable[wire.DownlinkReply]
        match message:
            case wire.Probe():
                return wire.encode(wire.ProbeReply(who=self._who))
            case ChecksChanged():
                self._on_checks_changed()
                return wire.encode(wire.Acknowledged())
            case wire.OutputWatch():
                runs = self._on_watch(message.command_id)
                return wire.encode(wire.Acknowledged(detail="" if runs else "not_running"))
            case wire.Delivery():
                answering = self._deliver(message)
            case wire.CancelRequest():
                answering = self._cancel(message)
        return wire.encode(await answering)

    async def _deliver(self, message: wire.Delivery) -> wire.DownlinkReply:
        try:
            body, unreadable = read_delivery(message.body)
        except msgspec.MsgspecError as error:
            return wire.Refused(code="malformed", detail=str(error))
        every: list[wire.Order | Named] = [*body.orders, *unreadable]
        if not self._identity().knows(message.key):
            # Not for good: the server's keys may have changed while this agent was away, and it hears of that next.
            log.warning("was sent a delivery under a key that is not known here orders=%d", len(every))
            self._refusals.suspect("delivery", message.key, every)
            self._on_unknown_key()
            return _all(every, "busy", wire.UNKNOWN_KEY, "The key that signed it is not known here yet.")
        if not self._identity().verifies(message.signature, wire.SIGNING_CONTEXT, message.body):
            log.error("refused a delivery that the server has not signed orders=%d", len(every))
            await self._refusals.refused("delivery", "bad_signature", _NOT_SIGNED, every, message.key)
            return _all(every, "rejected", "bad_signature", _NOT_SIGNED)
        if body.agent_id != self._identity().agent_id:
            log.error("refused a delivery for another agent agent_id=%s", body.agent_id)
            await self._refusals.refused("delivery", "wrong_agent", _ANOTHERS, every, message.key)
            return _all(every, "rejected", "wrong_agent", f"This is agent {self._identity().agent_id}.")
        again = self._refusals.seen(message.signature) or await self._is_old(body)
        self._clock.signed(body.sent_at, max((order.position for order in body.orders), default=0))
        if self._closed:
            return _all(every, "busy", "stopping", "The agent is stopping.")
        self._steps("received")
        refused = {
            (order.command_id, order.attempt): refusal
            for order in body.orders
            if (refusal := self._refusal(order)) is not None
        }
        reply = await self._journaled(body.orders, refused)
        if again:
            log.error("was sent a delivery once more that is not the server's repetition orders=%d", len(every))
            await self._refusals.refused("delivery", "replayed", "It came before, word for word.", every, message.key)
        elif late := [one for one in reply.orders if one.status == "expired"]:
            await self._refusals.refused(
                "delivery", "expired", "Its time was up when it came.", _named(late), message.key
            )
        for named, why in unreadable.items():
            log.error("cannot read the order of command_id=%s attempt=%d: %s", named.command_id, named.attempt, why)
            reply.orders.extend(_all([named], "rejected", "malformed", why).orders)
        return reply

    async def _is_old(self, body: wire.DeliveryBody) -> bool:
        """Whether it is from long ago and names what is known here; asked after a restart, which forgets `seen`."""
        if self._clock.now().timestamp() - body.sent_at.timestamp() < OLD_AFTER.total_seconds():
            return False
        keys = [Key(order.command_id, order.attempt) for order in body.orders]
        return await self._disk.call(self._journal.knows, keys)

    def _refusal(self, order: wire.Order) -> wire.Accepted | None:
        """Why this machine can never do it; None if it can."""
        try:
            self._check(self._opener.open(order))
        except WorkRefusedError as error:
            return _all([order], "rejected", error.code, str(error)).orders[0]
        return None

    async def _journaled(
        self, orders: Sequence[wire.Order], refused: dict[tuple[UUID, int], wire.Accepted]
    ) -> wire.DeliveryReply:
        good = [order for order in orders if (order.command_id, order.attempt) not in refused]
        if good and not self._has_room():
            return _all(orders, "busy", "disk_full", "The disk of this machine is nearly full.")
        try:
            statuses = await self._disk.call(self._journal.accept, good, self._clock.now())
        except JournalFullError as error:
            log.warning("cannot accept: %s", error)
            return _all(orders, "busy", error.code, str(error))
        self._steps("journaled")
        if any(status == "accepted" for status in statuses.values()):
            # All that waits rather than these orders alone: a redelivered one may have run, or be running.
            self._on_accepted(await self._disk.call(self._journal.waiting))
            for key in await self._disk.call(self._journal.ended):
                if key in statuses:
                    self._on_ended(key)
        return wire.DeliveryReply(
            orders=[
                refused.get((order.command_id, order.attempt))
                or wire.Accepted(
                    command_id=order.command_id,
                    attempt=order.attempt,
                    status=statuses[Key(order.command_id, order.attempt)],
                )
                for order in orders
            ]
        )

    async def held(self, told: wire.Held) -> None:
        """Answer for what the server takes to be here; see `Journal.held`."""
        if not self._identity().verifies(told.signature, wire.HELD_CONTEXT, told.body):
            log.error("passed over a list of what is held here that the server has not signed")
            await self._refusals.refused("held", "bad_signature", _NOT_SIGNED)
            return
        try:
            body = wire.decode_held_body(told.body)
        except msgspec.MsgspecError as error:
            log.warning("cannot read what the server takes to be here: %s", error)
            return
        if body.agent_id != self._identity().agent_id:
            log.error("passed over a list of what another agent holds agent_id=%s", body.agent_id)
            await self._refusals.refused("held", "wrong_agent", _ANOTHERS)
            return
        keys = [Key(one.command_id, one.attempt) for one in body.attempts]
        try:
            waiting = await self._disk.call(self._journal.held, keys, self._clock.now())
        except JournalFullError as error:
            log.warning("cannot answer for what the server takes to be here, at the next hello again: %s", error)
            return
        for key in waiting:
            log.warning("answers for command_id=%s attempt=%d, which the server takes to be open", *_pair(key))
            self._on_ended(key)

    async def _cancel(self, message: wire.CancelRequest) -> wire.DownlinkReply:
        if not self._identity().knows(message.key):
            self._refusals.suspect("cancel", message.key, _cancelled(message.body))
            self._on_unknown_key()
            detail = "The key that signed it is not known here yet."
            return wire.Refused(code=wire.UNKNOWN_KEY, detail=detail, permanent=False)
        if not self._identity().verifies(message.signature, wire.CANCEL_CONTEXT, message.body):
            log.error("refused a cancellation that the server has not signed")
            named = _cancelled(message.body)
            await self._refusals.refused("cancel", "bad_signature", _NOT_SIGNED, named, message.key)
            return wire.Refused(code="bad_signature", detail=_NOT_SIGNED)
        try:
            body = wire.decode_cancel_body(message.body)
        except msgspec.MsgspecError as error:
            return wire.Refused(code="malformed", detail=str(error))
        if body.agent_id != self._identity().agent_id:
            log.error("refused a cancellation for another agent agent_id=%s", body.agent_id)
            named = _cancelled(message.body)
            await self._refusals.refused("cancel", "wrong_agent", _ANOTHERS, named, message.key)
            return wire.Refused(code="wrong_agent", detail=f"This is agent {self._identity().agent_id}.")
        self._clock.signed(body.sent_at)
        try:
            statuses = await self._disk.call(self._journal.cancel, body.command_ids, self._clock.now())
        except JournalFullError as error:
            return wire.Refused(code=error.code, detail=str(error), permanent=False)
        for command_id in statuses:
            self._on_cancel(command_id)
        said = {"running": "ending"}
        return wire.CancelReply(
            statuses={str(command_id): said.get(status, status) for command_id, (status, _) in statuses.items()},
            attempts={str(command_id): ended for command_id, (status, ended) in statuses.items() if status == "ended"},
        )


_NOT_SIGNED = "The signature is not the server's."
_ANOTHERS = "It was signed for another agent."


def _named(orders: Sequence[wire.Accepted]) -> list[Named]:
    return [Named(one.command_id, one.attempt) for one in orders]


def _cancelled(body: bytes) -> list[Named]:
    """What a cancellation names, be it the server's or not; nothing where it cannot be read."""
    try:
        return [Named(command_id, 0) for command_id in wire.decode_cancel_body(body).command_ids]
    except msgspec.MsgspecError:
        return []


def _pair(key: Key) -> tuple[UUID, int]:
    return key.command_id, key.attempt


def _all(orders: Sequence[wire.Order | Named], status: str, code: str, detail: str) -> wire.DeliveryReply:
    return wire.DeliveryReply(
        orders=[
            wire.Accepted(command_id=order.command_id, attempt=order.attempt, status=status, code=code, detail=detail)
            for order in orders
        ]
    )
