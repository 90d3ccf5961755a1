"""A small language that chooses machines by what they tell of themselves.

    facts.os_id = "debian" and facts.os_version < "12"
    facts.memory_bytes >= 8e9 and not facts.users = "guest"
    has facts.battery or facts.hostname ~ "lap-*"

A name leads through the facts as they are shown; where it meets a list it means each thing in it, and one that fits is
enough (`facts.disks.used_percent > 90`: any disk). What a machine does not tell, or tells in another kind of value, is
**unknown**: neither a comparison with it nor the comparison's `not` holds. So nobody is meant by a mistake in a name.

It is evaluated here and not by the database: nothing that anybody typed becomes a statement, and the cost is bounded by
the limits below.
"""

import enum
import fnmatch
import functools
import math
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from domain.errors import InvalidFilterError

MAX_LENGTH = 2000
MAX_COMPARISONS = 50
MAX_DEPTH = 20
MAX_STEPS = 8
MAX_NAMES = 8
"""Different facts at the top; so many are read of each machine."""
MAX_TEXT = 1000
"""Of a fact that is text, so much is looked at."""

Truth = bool | None
"""None is unknown."""
Value = str | float | bool | None
Path = tuple[str, ...]

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.]))
    |(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<sign><=|>=|!=|==|[=<>~(),.])
    |(?P<word>[A-Za-z_][\w-]*)
    )""",
    re.VERBOSE | re.ASCII,
)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_RUNS = re.compile(r"(\d+)", re.ASCII)
_CONSTANTS: dict[str, Value] = {"true": True, "false": False, "null": None}


class Sign(enum.StrEnum):
    EQUAL = "="
    UNEQUAL = "!="
    LESS = "<"
    AT_MOST = "<="
    MORE = ">"
    AT_LEAST = ">="
    LIKE = "~"


_ORDERS: dict[Sign, Callable[[Any, Any], bool]] = {
    Sign.EQUAL: operator.eq,
    Sign.UNEQUAL: operator.ne,
    Sign.LESS: operator.lt,
    Sign.AT_MOST: operator.le,
    Sign.MORE: operator.gt,
    Sign.AT_LEAST: operator.ge,
}


class Compares(msgspec.Struct, frozen=True):
    """One comparison; several values are alternatives."""

    path: Path
    sign: Sign
    values: tuple[Value, ...]

    def holds(self, facts: Any) -> Truth:
        found: list[Any] = []
        if not _reach(facts, self.path, found):
            return None
        return _any(_compare(self.sign, one, value) for one in found for value in self.values) if found else False


class Has(msgspec.Struct, frozen=True):
    path: Path

    def holds(self, facts: Any) -> Truth:
        return _reach(facts, self.path, [])


class Not(msgspec.Struct, frozen=True):
    what: "Node"

    def holds(self, facts: Any) -> Truth:
        truth = self.what.holds(facts)
        return None if truth is None else not truth


class All(msgspec.Struct, frozen=True):
    of: tuple["Node", ...]

    def holds(self, facts: Any) -> Truth:
        truths = [node.holds(facts) for node in self.of]
        return False if False in truths else None if None in truths else True


class Any_(msgspec.Struct, frozen=True):  # noqa: N801 - `Any` is typing's
    of: tuple["Node", ...]

    def holds(self, facts: Any) -> Truth:
        return _any(node.holds(facts) for node in self.of)


Node = Compares | Has | Not | All | Any_


class Filter:
    """A filter, ready to be asked.

    Args:
        text: as it was typed.

    Raises:
        InvalidFilterError: it makes no sense, and where.
    """

    def __init__(self, text: str) -> None:
        parser = _Parser(text)
        self._node = parser.parse()
        self.names: tuple[str, ...] = tuple(sorted(parser.names))
        """The facts at the top that it needs."""

    def holds(self, facts: dict[str, Any]) -> Truth:
        """Whether a machine with these facts is meant; None where they do not tell."""
        return self._node.holds(facts)


@functools.lru_cache(maxsize=256)
def parsed(text: str) -> Filter:
    """As `Filter`; a rollout asks the same one again and again."""
    return Filter(text)


class _Parser:
    def __init__(self, text: str) -> None:
        if len(text) > MAX_LENGTH:
            raise InvalidFilterError(f"filter: at most {MAX_LENGTH} characters, not {len(text)}.")
        self._tokens = list(_tokens(text))
        self._next = 0
        self._comparisons = 0
        self.names: set[str] = set()

    def parse(self) -> Node:
        node = self._or(0)
        if self._kind:
            raise self._expected("and, or, or the end")
        if len(self.names) > MAX_NAMES:
            raise InvalidFilterError(f"filter: at most {MAX_NAMES} different facts, not {len(self.names)}.")
        return node

    # -- tokens --------------------------------------------------------------------------------------------------

    @property
    def _kind(self) -> str:
        return self._tokens[self._next][0]

    @property
    def _text(self) -> str:
        return self._tokens[self._next][1]

    def _expected(self, wanted: str) -> InvalidFilterError:
        kind, text, place = self._tokens[self._next]
        found = repr(text) if kind else "the end"
        return InvalidFilterError(f"filter: at {place + 1}: expected {wanted}, found {found}.")

    def _take(self) -> str:
        text = self._text
        self._next += 1
        return text

    def _word(self, word: str) -> bool:
        if self._kind == "word" and self._text.lower() == word:
            self._next += 1
            return True
        return False

    def _sign(self, sign: str) -> bool:
        if self._kind == "sign" and self._text == sign:
            self._next += 1
            return True
        return False

    # -- grammar -------------------------------------------------------------------------------------------------

    def _or(self, depth: int) -> Node:
        nodes = [self._and(depth)]
        while self._word("or"):
            nodes.append(self._and(depth))
        return nodes[0] if len(nodes) == 1 else Any_(tuple(nodes))

    def _and(self, depth: int) -> Node:
        nodes = [self._not(depth)]
        while self._word("and"):
            nodes.append(self._not(depth))
        return nodes[0] if len(nodes) == 1 else All(tuple(nodes))

    def _not(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise InvalidFilterError(f"filter: nested deeper than {MAX_DEPTH}.")
        if self._word("not"):
            return Not(self._not(depth + 1))
        if self._sign("("):
            node = self._or(depth + 1)
            if not self._sign(")"):
                raise self._expected("a closing parenthesis")
            return node
        return self._test()

    def _test(self) -> Node:
        self._count()
        if self._word("has"):
            return Has(self._path())
        path = self._path()
        if self._word("in"):
            return Compares(path, Sign.EQUAL, self._values())
        if self._kind != "sign" or self._text in "(),.":
            raise self._expected("one of = != < <= > >= ~ in")
        sign = Sign(self._take().replace("==", "="))
        value = self._value()
        if sign is Sign.LIKE and not isinstance(value, str):
            self._next -= 1
            raise self._expected("a pattern in quotes after ~")
        return Compares(path, sign, (value,))

    def _count(self) -> None:
        self._comparisons += 1
        if self._comparisons > MAX_COMPARISONS:
            raise InvalidFilterError(f"filter: at most {MAX_COMPARISONS} comparisons.")

    def _path(self) -> Path:
        if not self._word("facts"):
            raise self._expected("a fact, as facts.os_version")
        steps: list[str] = []
        while self._sign("."):
            if self._kind not in ("word", "text"):
                raise self._expected("the name of a fact")
            steps.append(_unquoted(self._take()) if self._kind == "text" else self._take())
        if not steps:
            raise self._expected("a dot and the name of a fact")
        if len(steps) > MAX_STEPS:
            raise InvalidFilterError(f"filter: facts are looked for at most {MAX_STEPS} steps deep.")
        self.names.add(steps[0])
        return tuple(steps)

    def _values(self) -> tuple[Value, ...]:
        if not self._sign("("):
            raise self._expected("a list in parentheses after in")
        values = [self._value()]
        while self._sign(","):
            values.append(self._value())
            self._count()
        if not self._sign(")"):
            raise self._expected("a comma or a closing parenthesis")
        return tuple(values)

    def _value(self) -> Value:
        match self._kind:
            case "text":
                return _unquoted(self._take())
            case "number":
                number = float(self._text)
                if not math.isfinite(number):
                    raise self._expected("a number of a size that exists")
                self._next += 1
                return number
            case "word" if self._text.lower() in _CONSTANTS:
                return _CONSTANTS[self._take().lower()]
            case _:
                raise self._expected("a value: a number, a text in quotes, true, false or null")


def _tokens(text: str) -> Iterable[tuple[str, str, int]]:
    place = 0
    end = len(text.rstrip())
    while place < end:
        match = _TOKEN.match(text, place)
        if match is None or match.lastgroup is None:
            place += len(text[place:]) - len(text[place:].lstrip())
            raise InvalidFilterError(f"filter: at {place + 1}: {text[place : place + 10]!r} cannot be read.")
        yield match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)
        place = match.end()
    yield "", "", end


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)


def _any(truths: Iterable[Truth]) -> Truth:
    told = list(truths)
    return True if True in told else None if None in told else False


def _reach(value: Any, path: Sequence[str], found: list[Any]) -> bool:
    """Gather what a path leads to; False where it leads nowhere."""
    if isinstance(value, list):
        return not value or sum(_reach(one, path, found) for one in value) > 0
    if not path:
        found.append(value)
        return True
    return isinstance(value, dict) and path[0] in value and _reach(value[path[0]], path[1:], found)


def _compare(sign: Sign, actual: Any, wanted: Value) -> Truth:
    if isinstance(actual, str):
        actual = actual[:MAX_TEXT]
    if sign is Sign.LIKE:
        if not isinstance(actual, str) or not isinstance(wanted, str):
            return None
        return fnmatch.fnmatchcase(actual.casefold(), wanted.casefold())
    if sign in (Sign.EQUAL, Sign.UNEQUAL) and (actual is None or wanted is None):
        return (actual is wanted) is (sign is Sign.EQUAL)
    alike = _alike(actual, wanted)
    return None if alike is None else _ORDERS[sign](*alike)


def _alike(actual: Any, wanted: Value) -> tuple[Any, Any] | None:
    """Both as what can be compared; None where they cannot."""
    if isinstance(actual, bool) or isinstance(wanted, bool):
        return (actual, wanted) if isinstance(actual, bool) and isinstance(wanted, bool) else None
    if isinstance(actual, str) and isinstance(wanted, str):
        return (actual, wanted) if actual == wanted else (_version(actual), _version(wanted))
    one, other = _number(actual), _number(wanted)
    return None if one is None or other is None else (one, other)


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        return float(value) if _NUMBER.fullmatch(value) else None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _version(text: str) -> tuple[tuple[int, int, str], ...]:
    """Text in the order in which people number versions: 9.9 before 9.10."""
    return tuple((0, int(run), run) if run.isdecimal() else (1, 0, run) for run in _RUNS.split(text) if run)
