"""The query of the dashboard's search box, on the command line: ``os:linux tag:web status:offline seen:>7d``."""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from gateways.cli.errors import BadValueError
from gateways.cli.output import Row
from gateways.cli.times import span

_TOKENS = re.compile(r'\w+:"[^"]*"?|"[^"]*"?|\S+')
_KEYED = re.compile(r"([a-z]+):(.*)", re.IGNORECASE)
_NUMBER = re.compile(r"(>=?)?(\d{1,6})")
_SEEN = re.compile(r"([<>])(\d{1,6}[smhdw])")
_STATUS: dict[str, Row] = {
    "online": {"online": True, "state": "active"},
    "offline": {"online": False, "state": "active"},
    "active": {"state": "active"},
    "suspended": {"state": "suspended"},
    "retired": {"state": "retired"},
}
_PLATFORMS = ("linux", "windows", "macos")
KEYS = "status, os, platform, tag, version, is, pending, updates, security, software, failing, warning, check and seen"


def matching(text: str, now: datetime) -> Row:
    """What the API is asked for; retired agents are left out unless they are asked for.

    Args:
        text: words, and ``key:value``; quotes keep a value with spaces together.
        now: for how long ago something was seen.

    Raises:
        BadValueError: something in it is not understood.
    """
    asked: dict[str, Any] = {}
    words: list[str] = []
    for token in _TOKENS.findall(text):
        keyed = _KEYED.fullmatch(token)
        if keyed is None:
            words.append(token.strip('"'))
            continue
        key, value = keyed[1].lower(), keyed[2].strip('"')
        if key not in _READERS:
            raise BadValueError(f"There is no filter called {key}: {KEYS} are there.")
        _READERS[key](asked, value, now)
    if words:
        asked["q"] = " ".join(words)
    return asked if "state" in asked else asked | {"retired": False}


def _status(asked: Row, value: str, _now: datetime) -> None:
    if value.lower() not in _STATUS:
        raise BadValueError(f"status is one of {', '.join(_STATUS)}, and not {value!r}.")
    asked.update(_STATUS[value.lower()])


def _os(asked: Row, value: str, _now: datetime) -> None:
    if value.lower() in _PLATFORMS:
        asked["platform"] = value.lower()
    else:
        asked["os"] = value


def _platform(asked: Row, value: str, _now: datetime) -> None:
    if value.lower() not in _PLATFORMS:
        raise BadValueError(f"platform is one of {', '.join(_PLATFORMS)}, and not {value!r}.")
    asked["platform"] = value.lower()


def _tag(asked: Row, value: str, _now: datetime) -> None:
    asked.setdefault("tag", []).append(value)


def _version(asked: Row, value: str, _now: datetime) -> None:
    asked["agent_version"] = value


def _is(asked: Row, value: str, _now: datetime) -> None:
    if value.lower() != "duplicate":
        raise BadValueError(f"is:duplicate is all that there is, and not is:{value}.")
    asked["duplicate"] = True


def _at_least(key: str, asked_as: str) -> Callable[[Row, str, datetime], None]:
    def read(asked: Row, value: str, _now: datetime) -> None:
        found = _NUMBER.fullmatch(value)
        if found is None:
            raise BadValueError(f"{key} takes a number, as {key}:>0, and not {value!r}.")
        least = int(found[2]) + (found[1] == ">")
        if least > 0:
            asked[asked_as] = least

    return read


def _software(asked: Row, value: str, _now: datetime) -> None:
    asked["software"] = value


def _check(asked: Row, value: str, _now: datetime) -> None:
    asked["check"] = value


def _reboot(asked: Row, value: str, _now: datetime) -> None:
    if value.lower() not in ("needed", "none"):
        raise BadValueError(f"reboot is needed or none, and not {value!r}.")
    asked["reboot_needed"] = value.lower() == "needed"


def _seen(asked: Row, value: str, now: datetime) -> None:
    found = _SEEN.fullmatch(value.lower())
    if found is None:
        raise BadValueError(f"seen takes a time, as seen:<1h or seen:>7d, and not {value!r}.")
    try:
        at = (now - span(found[2])).isoformat()
    except OverflowError:
        raise BadValueError(f"{value!r} is too long ago.") from None
    asked["seen_after" if found[1] == "<" else "seen_before"] = at


_READERS: dict[str, Callable[[Row, str, datetime], None]] = {
    "status": _status,
    "os": _os,
    "platform": _platform,
    "tag": _tag,
    "version": _version,
    "is": _is,
    "pending": _at_least("pending", "pending"),
    "updates": _at_least("updates", "updates"),
    "security": _at_least("security", "security_updates"),
    "software": _software,
    "failing": _at_least("failing", "failing"),
    "warning": _at_least("warning", "warning"),
    "check": _check,
    "reboot": _reboot,
    "seen": _seen,
}
