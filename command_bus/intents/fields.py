"""Intents about custom fields."""

from typing import Annotated, ClassVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, Strict

from command_bus.bus import Intent
from domain import fields as domain
from domain.permissions import Permission
from domain.placeholders import NAME

Number = Annotated[int, Strict()] | Annotated[float, Strict()]
Value = (
    Annotated[bool, Strict()]
    | Number
    | Annotated[str, Field(max_length=domain.MAX_TEXT)]
    | Annotated[list[str], Field(max_length=domain.MAX_CHOICES)]
)
Values = Annotated[
    dict[str, Value | None],
    Field(max_length=domain.MAX_VALUES, description="By the fields' names; null empties one, and others stay."),
]


def to_value(value: Value) -> domain.Value:
    return tuple(value) if isinstance(value, list) else value


class Terms(BaseModel):
    """What a field holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: domain.FieldKind
    on: list[domain.Holder] = Field(min_length=1, max_length=3, description="What it may be filled in on.")
    choices: list[str] = Field(default=[], max_length=domain.MAX_CHOICES, description="Of a choice or a multiple one.")
    default: Value | None = Field(default=None, description="Where nothing is filled in.")
    required: bool = Field(default=False, description="What it is on may not be without it; the default counts.")
    description: str = Field(default="", max_length=2000)

    def to_domain(self) -> domain.FieldTerms:
        return domain.FieldTerms(
            kind=self.kind,
            on=tuple(self.on),
            choices=tuple(self.choices),
            default=to_value(self.default) if self.default is not None else None,
            required=self.required,
            description=self.description,
        )


class DefineField(Intent):
    """Define a field, or change what it holds. Values that no longer fit stand for nothing."""

    needs: ClassVar[Permission] = Permission.FIELDS_DEFINE
    fleet_wide: ClassVar[bool] = True

    name: str = Field(pattern=f"^{NAME}$", description="As in `{{field.NAME}}`; case does not matter.")
    terms: Terms


class RemoveField(Intent):
    """Remove a field; what is filled in stands for nothing until it is defined again."""

    needs: ClassVar[Permission] = Permission.FIELDS_DEFINE
    fleet_wide: ClassVar[bool] = True

    field_id: UUID


class _Fill(Intent):
    needs: ClassVar[Permission] = Permission.FIELDS_FILL

    values: Values


class FillClientFields(_Fill):
    """Fill in fields of a client."""

    client_id: UUID


class FillSiteFields(_Fill):
    """Fill in fields of a site."""

    site_id: UUID


class FillAgentFields(_Fill):
    """Fill in fields of an agent."""

    agent_id: UUID
