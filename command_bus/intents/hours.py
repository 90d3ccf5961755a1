"""Hours, as people write them."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from domain import hours

Time = Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]


class Hours(BaseModel):
    """When a command may begin, by the clock where its machine stands; over midnight where `ends` is not later."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    begins: Time
    ends: Time
    days: list[hours.Weekday] = Field(
        default=[], max_length=7, description="On which they begin; none means every day."
    )
    timezone: Annotated[str, Field(min_length=1, max_length=64)] | None = Field(
        default=None,
        description="An IANA name or an offset as +05:30, for all machines; null means each machine's own, as its "
        "facts tell it.",
    )

    def to_domain(self) -> hours.Hours:
        return hours.Hours(
            begins=self.begins, ends=self.ends, days=tuple(dict.fromkeys(self.days)), timezone=self.timezone
        )
