"""Custom fields: what an administrator wants to know of clients, sites and agents, and commands want to be told.

A field is defined once for the fleet: what it holds, and on which of the three it may be filled in. `{{field.name}}` is
the value of the nearest that has one (the agent, its site, its client), else the field's default.
"""

import enum
import math
import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import ClassVar
from uuid import UUID

import msgspec

from domain.errors import (
    FieldRemovedError,
    InvalidValueError,
    RequiredFieldError,
    UnknownFieldError,
)
from domain.event import Aggregate, Change, Event
from domain.ids import AgentId, ClientId, FieldId, derived_id
from domain.personal import Personal, SubjectKind
from domain.placeholders import NAME

MAX_TEXT = 4096
MAX_CHOICES = 200
MAX_CHOICE = 200
MAX_VALUES = 500
"""Of one holder."""
_NAME = re.compile(NAME)

Value = str | float | bool | tuple[str, ...]


class FieldKind(enum.StrEnum):
    TEXT = "text"
    NUMBER = "number"
    CHOICE = "choice"
    MULTIPLE = "multiple"
    CHECKBOX = "checkbox"
    DATE = "date"


class Holder(enum.StrEnum):
    """What a field may be filled in on, the nearest to a machine first."""

    AGENT = "agent"
    SITE = "site"
    CLIENT = "client"


class FieldTerms(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a field holds."""

    kind: FieldKind
    on: tuple[Holder, ...]
    choices: tuple[str, ...] = ()
    """Of a choice, and of a multiple one."""
    default: Value | None = None
    required: bool = False
    """What it is on may not be without it; the default counts."""
    description: str = ""

    def check(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            InvalidValueError: it is on nothing, its choices are none or doubled, or its default is none of its values.
        """
        if not self.on or len(set(self.on)) != len(self.on):
            raise InvalidValueError("on: one or more of client, site and agent, each once.")
        chosen = self.kind in (FieldKind.CHOICE, FieldKind.MULTIPLE)
        if chosen != bool(self.choices):
            raise InvalidValueError("choices: a choice and a multiple choice have some, and nothing else has.")
        if len(self.choices) > MAX_CHOICES or len(set(self.choices)) != len(self.choices):
            raise InvalidValueError(f"choices: at most {MAX_CHOICES}, each once.")
        for choice in self.choices:
            if not 1 <= len(choice) <= MAX_CHOICE or not choice.isprintable() or "," in choice:
                raise InvalidValueError(f"choices: 1 to {MAX_CHOICE} printable characters without comma.")
        if self.default is not None:
            self.must_accept("default", self.default)

    def must_accept(self, name: str, value: Value) -> None:
        """Raise InvalidValueError for a value that the field does not hold."""
        wrong = self._wrong(value)
        if wrong:
            raise InvalidValueError(f"{name}: {wrong}")

    def accepts(self, value: Value) -> bool:
        return not self._wrong(value)

    def _wrong(self, value: Value) -> str:
        expected, fits = self._judged(value)
        return "" if fits else expected

    def _judged(self, value: Value) -> tuple[str, bool]:
        """What the field holds, in words, and whether this is such a value."""
        match self.kind:
            case FieldKind.TEXT:
                fits = isinstance(value, str) and len(value) <= MAX_TEXT and "\x00" not in value
                return f"a text of at most {MAX_TEXT} characters without NUL.", fits
            case FieldKind.NUMBER:
                number = isinstance(value, int | float) and not isinstance(value, bool)
                return "a finite number.", number and math.isfinite(float(value))  # type: ignore[arg-type]
            case FieldKind.CHECKBOX:
                return "true or false.", isinstance(value, bool)
            case FieldKind.CHOICE:
                return f"one of {', '.join(self.choices)}.", isinstance(value, str) and value in self.choices
            case FieldKind.MULTIPLE:
                some = isinstance(value, tuple) and len(set(value)) == len(value) and set(value) <= set(self.choices)
                return f"some of {', '.join(self.choices)}, each once.", some
            case FieldKind.DATE:
                return "a date, as 2030-12-31.", isinstance(value, str) and _is_date(value)


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def as_text(value: Value) -> str:
    """A value as a command is given it."""
    match value:
        case bool():
            return "true" if value else "false"
        case float() | int():
            return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(value)
        case tuple():
            return ",".join(value)
        case _:
            return value


class FieldDefined(Event, frozen=True, kw_only=True):
    """This is what it holds from now on."""

    name: str
    terms: FieldTerms


class FieldRemoved(Event, frozen=True, kw_only=True):
    pass


class FieldsFilled(Event, frozen=True, kw_only=True):
    """All that is filled in on one holder from now on, by the fields' names in lower case."""

    personal: ClassVar[Personal | None] = Personal(
        fields=("values",), of=SubjectKind.AGENT, subject="holder_id", only=("holder", "agent")
    )

    holder: Holder
    holder_id: UUID
    values: dict[str, Value]


def field_stream(name: str) -> FieldId:
    return FieldId(derived_id("field", name.casefold()))


def values_stream(holder_id: UUID) -> UUID:
    return derived_id("fields", holder_id)


class Field(Aggregate):
    name: str = ""
    terms: FieldTerms | None = None
    """None where it is removed, or never was."""

    def define(self, name: str, terms: FieldTerms) -> Change:
        """Say what it holds. Values that no longer fit stand for nothing until they are filled in anew."""
        if not _NAME.fullmatch(name):
            raise InvalidValueError("name: 1 to 64 letters, digits and '_', beginning with a letter.")
        terms.check()
        return self.decide(FieldDefined(name=name, terms=terms))

    def remove(self) -> Change:
        if self.terms is None:
            raise FieldRemovedError
        return self.decide(FieldRemoved())

    def when(self, event: Event) -> None:
        match event:
            case FieldDefined():
                self.name, self.terms = event.name, event.terms
            case FieldRemoved():
                self.terms = None
            case _:
                super().when(event)


class FieldValues(Aggregate):
    """What is filled in on one client, site or agent."""

    agent_id: AgentId | None = None
    client_id: ClientId | None = None

    def __init__(self, stream_id: UUID) -> None:
        super().__init__(stream_id)
        self.values: dict[str, Value] = {}

    def concerns(self) -> tuple[UUID | None, UUID | None]:
        return self.agent_id, self.client_id

    def fill(
        self, holder: Holder, holder_id: UUID, given: Mapping[str, Value | None], fields: Mapping[str, FieldTerms]
    ) -> Change:
        """Fill in some fields; None empties one, and those that are not named stay.

        Args:
            holder: what it is on.
            holder_id: which.
            given: by name in lower case.
            fields: the terms of those named, where there are such.

        Raises:
            UnknownFieldError: there is no such field on that kind of thing.
            InvalidValueError: a value is none that the field holds.
            RequiredFieldError: one that must be filled in would be empty.
        """
        for name, value in given.items():
            terms = fields.get(name)
            if value is None and terms is None:
                continue
            if terms is None or holder not in terms.on:
                raise UnknownFieldError(f"There is no field {name!r} on a {holder}.")
            if value is not None:
                terms.must_accept(name, value)
            elif terms.required and terms.default is None:
                raise RequiredFieldError(f"The field {name!r} must be filled in.")
        values = {name: value for name, value in {**self.values, **given}.items() if value is not None}
        if len(values) > MAX_VALUES:
            raise InvalidValueError(f"values: at most {MAX_VALUES} fields.")
        return self.decide(FieldsFilled(holder=holder, holder_id=holder_id, values=dict(sorted(values.items()))))

    def empty(self, holder: Holder, holder_id: UUID) -> Change:
        """Leave nothing filled in, whatever must be: the holder is erased."""
        return self.decide(FieldsFilled(holder=holder, holder_id=holder_id, values={}))

    def when(self, event: Event) -> None:
        match event:
            case FieldsFilled():
                self.values = dict(event.values)
            case _:
                super().when(event)


def nearest(name: str, terms: FieldTerms | None, filled: Sequence[tuple[Holder, Mapping[str, Value]]]) -> str | None:
    """What a field comes to for a machine.

    Args:
        name: in lower case.
        terms: None if there is no such field.
        filled: what is filled in on the machine, its site and its client, in this order.
    """
    if terms is None:
        return None
    for holder, values in filled:
        value = values.get(name)
        if value is not None and holder in terms.on and terms.accepts(value):
            return as_text(value)
    return as_text(terms.default) if terms.default is not None else None
