"""Hours: when a command may begin, by the clock on the wall where its machine stands.

The rule is what a person reads off that clock: the time lies between two, on one of some days. So it holds on the two
odd nights of the year as well: an hour that is skipped was never there, and one that comes twice counts both times.
"""

import enum
import functools
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from domain.errors import InvalidValueError

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
LOOK_AHEAD = 9
"""Days: each weekday comes within so many, an odd night included."""
MAX_OFFSET_MINUTES = 18 * 60
TIMEZONE_FACTS = ("timezone", "utc_offset_minutes")
_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)", re.ASCII)
_OFFSET = re.compile(r"([+-])(\d\d):([0-5]\d)", re.ASCII)


class Weekday(enum.StrEnum):
    MONDAY = "mon"
    TUESDAY = "tue"
    WEDNESDAY = "wed"
    THURSDAY = "thu"
    FRIDAY = "fri"
    SATURDAY = "sat"
    SUNDAY = "sun"


_WEEK = tuple(Weekday)


class Hours(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """From one time of the day to another, over midnight where that is not later."""

    begins: str
    """``22:00``"""
    ends: str
    days: tuple[Weekday, ...] = ()
    """On which they begin; none means every day."""
    timezone: str | None = None
    """An IANA name, or an offset as ``+05:30``. None: each machine's own."""

    def check(self) -> None:
        """Raise InvalidValueError for impossible hours."""
        for name, text in (("begins", self.begins), ("ends", self.ends)):
            if _TIME.fullmatch(text) is None:
                raise InvalidValueError(f"hours.{name}: a time as 22:00, not {text!r}.")
        if self.begins == self.ends and set(self.days) in (set(), set(_WEEK)):
            raise InvalidValueError("hours: these are always; leave them out.")
        if self.timezone is not None:
            zone(self.timezone)

    def of(self, machine_timezone: str) -> "Hours":
        """The same for one machine."""
        return self if self.timezone is not None else msgspec.structs.replace(self, timezone=machine_timezone)

    def open_at(self, at: datetime) -> bool:
        """Whether a command may begin then."""
        local = at.astimezone(_zone_of(self))
        now, begins, ends = local.strftime("%H:%M"), self.begins, self.ends
        if begins < ends:
            return begins <= now < ends and self._on(local.date())
        return (now >= begins and self._on(local.date())) or (now < ends and self._on(local.date() - DAY))

    def opening(self, at: datetime) -> datetime:
        """The first moment from then on at which a command may begin."""
        return at if self.open_at(at) else _next(self, _minute(at), opens=True)

    def closing(self, at: datetime) -> datetime:
        """The end of the hours that are open then."""
        return _next(self, _minute(at), opens=False)

    def _on(self, day: date) -> bool:
        return not self.days or _WEEK[day.weekday()] in self.days


def zone(name: str) -> tzinfo:
    """A time zone by its IANA name, or by its offset from UTC.

    A machine without time zones of its own (slim containers, Windows) has those of the package tzdata.

    Raises:
        InvalidValueError: there is none of that name.
    """
    offset = _OFFSET.fullmatch(name)
    try:
        if offset is not None:
            minutes = int(offset[2]) * 60 + int(offset[3])
            return timezone((-1 if offset[1] == "-" else 1) * timedelta(minutes=minutes))
        return ZoneInfo(name)
    except (ValueError, OSError, ZoneInfoNotFoundError) as error:
        raise InvalidValueError(f"hours.timezone: there is no time zone {name!r}.") from error


def timezone_of(facts: dict[str, Any]) -> str | None:
    """A machine's time zone by its facts: by name where that is one, else by its offset; None if neither is told."""
    name = facts.get("timezone")
    if isinstance(name, str):
        try:
            zone(name)
        except InvalidValueError:
            pass  # newer than our own data, or nonsense: the offset says what matters
        else:
            return name
    minutes = facts.get("utc_offset_minutes")
    if not isinstance(minutes, int) or isinstance(minutes, bool) or abs(minutes) > MAX_OFFSET_MINUTES:
        return None
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"


encode_hours = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Hours).decode


@functools.lru_cache(maxsize=4096)
def decode_hours(text: str) -> Hours:
    """Hours out of JSON; the same ones are asked for again and again."""
    return _decode(text)


def _zone_of(hours: Hours) -> tzinfo:
    if hours.timezone is None:
        raise ValueError("hours without a time zone are no machine's hours")
    return zone(hours.timezone)


def _minute(at: datetime) -> datetime:
    """Its beginning: clocks turn on whole minutes, so what comes after it comes after all of its seconds, too."""
    return at.replace(second=0, microsecond=0)


@functools.lru_cache(maxsize=4096)
def _next(hours: Hours, at: datetime, *, opens: bool) -> datetime:
    """The next moment at which they open, or close. Agents are served thousands at a time: most ask the same."""
    found = (moment for moment in _turns(hours, at) if moment > at and hours.open_at(moment) is opens)
    earliest = min(found, default=None)
    if earliest is None:
        raise InvalidValueError("hours: they never open.")
    return earliest


def _turns(hours: Hours, at: datetime) -> Iterator[datetime]:
    """Every moment near which they may open or close: the times of each day, and where the clock is put."""
    where = _zone_of(hours)
    first = at.astimezone(where).date() - DAY
    for day in (first + DAY * i for i in range(LOOK_AHEAD + 2)):
        for text in (hours.begins, hours.ends, "00:00"):
            local = datetime.combine(day, time.fromisoformat(text), where)
            yield local.astimezone(UTC)
            yield local.replace(fold=1).astimezone(UTC)
        yield from _put(where, datetime.combine(day, time(12), UTC))


def _put(where: tzinfo, noon: datetime) -> Iterator[datetime]:
    """The moment of the day around ``noon`` at which the clock is put forward or back, if it is."""
    low, high = noon - DAY / 2, noon + DAY / 2
    before = low.astimezone(where).utcoffset()
    if before == high.astimezone(where).utcoffset():
        return
    while high - low > MINUTE:
        middle = low + MINUTE * ((high - low) // MINUTE // 2)
        low, high = (middle, high) if middle.astimezone(where).utcoffset() == before else (low, middle)
    yield high
