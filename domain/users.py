"""Users and service accounts: who works with the fleet, and what they were granted."""

import enum
from typing import ClassVar

from domain.access import Grant, check_grants
from domain.erasures import SubjectErased
from domain.errors import ErasedError, InvalidValueError, UserDisabledError, UserNotDisabledError
from domain.event import Aggregate, Change, Event
from domain.names import clean_name
from domain.personal import Personal, SubjectKind

MAX_EMAIL_LENGTH = 254


class UserKind(enum.StrEnum):
    PERSON = "person"
    SERVICE = "service"
    """A program: it has keys, and never a password."""


class UserCreated(Event, frozen=True, kw_only=True):
    personal: ClassVar[Personal | None] = Personal(fields=("name", "email"), of=SubjectKind.USER)

    kind: UserKind
    name: str
    email: str = ""
    grants: tuple[Grant, ...] = ()


class UserChanged(Event, frozen=True, kw_only=True):
    personal: ClassVar[Personal | None] = Personal(fields=("name", "email"), of=SubjectKind.USER)

    name: str
    email: str = ""


class UserGranted(Event, frozen=True, kw_only=True):
    grants: tuple[Grant, ...]
    """All of them from now on."""


class UserGroupsApplied(Event, frozen=True, kw_only=True):
    """What the provider's groups stand for, as of a login; what was granted by hand is not touched."""

    issuer: str
    grants: tuple[Grant, ...]
    """All that come from groups from now on."""


class UserDisabled(Event, frozen=True, kw_only=True):
    reason: str = ""


class UserEnabled(Event, frozen=True, kw_only=True):
    reason: str = ""


def clean_email(text: str) -> str:
    """Trim an address and refuse what no mail could reach; none at all is allowed.

    Raises:
        InvalidValueError: it is no address.
    """
    cleaned = text.strip()
    if not cleaned:
        return ""
    local, _, host = cleaned.rpartition("@")
    if not local or not host or len(cleaned) > MAX_EMAIL_LENGTH or not cleaned.isprintable() or " " in cleaned:
        raise InvalidValueError("email: an address such as ada@example.com.")
    return cleaned


class User(Aggregate):
    kind: UserKind
    name: str
    email: str = ""
    granted: tuple[Grant, ...] = ()
    """By hand."""
    of_groups: tuple[Grant, ...] = ()
    """By the provider's groups, as of the last login through it."""
    disabled: bool = False
    erased: bool = False
    """Who it was is seen by nobody any more."""

    @property
    def grants(self) -> tuple[Grant, ...]:
        """All that they may."""
        return (*self.granted, *(one for one in self.of_groups if one not in self.granted))

    def create(self, created: UserCreated) -> Change:
        check_grants(created.grants)
        name, email = clean_name(created.name, what="user"), clean_email(created.email)
        return self.decide(UserCreated(kind=created.kind, name=name, email=email, grants=created.grants))

    def change(self, name: str, email: str) -> Change:
        self.must_not_be_erased()
        return self.decide(UserChanged(name=clean_name(name, what="user"), email=clean_email(email)))

    def grant(self, grants: tuple[Grant, ...]) -> Change:
        check_grants(grants)
        return self.decide(UserGranted(grants=grants))

    def apply_groups(self, issuer: str, grants: tuple[Grant, ...]) -> Change:
        """Take over what the provider's groups stand for now, in place of what they stood for before."""
        check_grants(grants)
        return self.decide(UserGroupsApplied(issuer=issuer, grants=grants))

    def disable(self, reason: str) -> Change:
        self.must_be_enabled()
        return self.decide(UserDisabled(reason=reason))

    def enable(self, reason: str) -> Change:
        self.must_not_be_erased()
        if not self.disabled:
            raise UserNotDisabledError
        return self.decide(UserEnabled(reason=reason))

    def erase(self, reason: str) -> Change:
        """Have all that is personal about them erased.

        Raises:
            UserNotDisabledError: they may still log in.
            ErasedError: that was done before.
        """
        self.must_not_be_erased()
        if not self.disabled:
            raise UserNotDisabledError
        return self.decide(SubjectErased(kind=SubjectKind.USER, subject=self.stream_id, reason=reason))

    def must_not_be_erased(self) -> None:
        """Raise ErasedError where they are."""
        if self.erased:
            raise ErasedError

    def must_be_enabled(self) -> None:
        """Raise UserDisabledError where the user is disabled."""
        if self.disabled:
            raise UserDisabledError

    def when(self, event: Event) -> None:
        match event:
            case UserCreated():
                self.kind = event.kind
                self.name = event.name
                self.email = event.email
                self.granted = event.grants
            case UserChanged():
                self.name = event.name
                self.email = event.email
            case UserGranted():
                self.granted = event.grants
            case UserGroupsApplied():
                self.of_groups = event.grants
            case UserDisabled():
                self.disabled = True
            case UserEnabled():
                self.disabled = False
            case SubjectErased():
                self.erased = True
            case _:
                super().when(event)
