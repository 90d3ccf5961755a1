"""Whose hands an account or a key is in is told by who gave it a way in, and ends when another gives it another."""

from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID

import pytest

from domain.api_keys import ApiKeyCreated
from domain.event import Event, Recorded
from domain.hands import Hand, hands_on
from domain.identities import IdentityLinked, IdentityUnlinked
from domain.ids import UserId
from domain.logins import PasswordSet, TotpEnrolled, TotpRemoved
from domain.users import UserCreated, UserKind

ONE = UUID(int=1)
BOB = UserId(UUID(int=2))
BOBS = f"user:{BOB}"
GIVEN = PasswordSet(user_id=BOB, value_id=ONE, must_change=True)
OWN = PasswordSet(user_id=BOB, value_id=ONE)
NO_FACTOR = TotpRemoved(user_id=BOB)
FACTOR = TotpEnrolled(user_id=BOB, value_id=ONE, recovery_id=ONE)
MADE = UserCreated(kind=UserKind.PERSON, name="Bob")
LINKED = IdentityLinked(user_id=BOB, issuer="https://id.example.com", subject="b")
UNLINKED = IdentityUnlinked(user_id=BOB, issuer="https://id.example.com", subject="b")


def story(*acts: tuple[str, Event]) -> Iterator[Recorded]:
    for number, (actor, event) in enumerate(acts, 1):
        yield Recorded(
            position=number,
            originator_id=BOB,
            originator_version=number,
            topic=type(event).__name__,
            event=event,
            recorded_at=datetime(2026, 1, 1, tzinfo=UTC),
            actor=actor,
            correlation_id=ONE,
            causation_id=None,
            agent_id=None,
            client_id=None,
        )


@pytest.mark.parametrize(
    ("acts", "hands"),
    [
        ([("ada", MADE)], {"ada"}),
        ([("ada", MADE), ("zoe", GIVEN), (BOBS, OWN)], {"zoe"}),
        ([("zoe", MADE), ("zoe", GIVEN), (BOBS, OWN), ("ada", NO_FACTOR), (BOBS, FACTOR)], {"ada", "zoe"}),
        ([("ada", MADE), ("ada", GIVEN), (BOBS, OWN), ("ada", NO_FACTOR), ("zoe", GIVEN)], {"zoe"}),
        ([("ada", MADE), ("ada", GIVEN), (BOBS, GIVEN), (BOBS, NO_FACTOR)], {"ada"}),
        ([("sso", MADE), ("ada", LINKED), ("zoe", GIVEN)], {"ada", "zoe"}),
        ([("sso", MADE), ("ada", LINKED), ("zoe", GIVEN), ("zoe", UNLINKED)], {"zoe"}),
        ([("ada", MADE), (BOBS, LINKED), ("zoe", GIVEN)], {BOBS, "zoe"}),
    ],
)
def test_an_account(acts: list[tuple[str, Event]], hands: set[str]) -> None:
    """Made, password, second factor, identity: the last of each counts; nobody takes it out of others' hands alone."""
    assert {one.actor for one in hands_on(Hand(BOBS, len(acts)), story(*acts))} == hands
    earlier = hands_on(Hand(BOBS, 1), story(*acts))
    assert earlier == {Hand(acts[0][0], 1)}


def test_a_key() -> None:
    """Its maker has seen it, whoever owns it."""
    key = ApiKeyCreated(name="k", secret_sha256="0" * 64)
    assert hands_on(Hand("key:1", 9), story(("ada", key))) == {Hand("ada", 1)}
    owned = ApiKeyCreated(name="k", secret_sha256="0" * 64, owner_id=BOB)
    assert hands_on(Hand("key:1", 9), story(("ada", owned))) == {Hand("ada", 1), Hand(BOBS, 9)}
