"""A request that carries a key of its own is done once: the key is an event, recorded with those it caused."""

from uuid import UUID

from domain.errors import IdempotencyMismatchError
from domain.event import Aggregate, Change, Event
from domain.ids import derived_id


class IntentAccepted(Event, frozen=True, kw_only=True):
    key: str
    intent: str
    request_sha256: str
    response: str
    """What the caller was told, as JSON, so that the repeat is told the same."""


class AcceptedIntent(Aggregate):
    accepted: IntentAccepted | None = None

    @staticmethod
    def id_of(actor: str, key: str) -> UUID:
        return derived_id("idempotency", actor, key)

    def accept(self, accepted: IntentAccepted) -> Change:
        return self.decide(accepted)

    def answer(self, intent: str, request_sha256: str) -> str | None:
        """What to answer a repeat, or None if the key is new.

        Raises:
            IdempotencyMismatchError: the key stands for another request.
        """
        if self.accepted is None:
            return None
        if (self.accepted.intent, self.accepted.request_sha256) != (intent, request_sha256):
            raise IdempotencyMismatchError
        return self.accepted.response

    def when(self, event: Event) -> None:
        match event:
            case IntentAccepted():
                self.accepted = event
            case _:
                super().when(event)
