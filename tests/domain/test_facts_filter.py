"""The language that chooses machines by their facts."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import InvalidFilterError
from domain.facts_filter import MAX_COMPARISONS, MAX_DEPTH, MAX_LENGTH, MAX_NAMES, MAX_STEPS, Filter

FACTS: dict[str, Any] = {
    "os": "Debian GNU/Linux 12 (bookworm)",
    "os_id": "debian",
    "os_version": "12.10",
    "memory_bytes": 8_000_000_000,
    "users": ["alice", "bob"],
    "nobody": [],
    "disks": [{"mount": "/", "used_percent": 95}, {"mount": "/srv", "used_percent": 10}, {"mount": "/odd"}],
    "cpu": {"cores": 4, "model": None},
    "virtual": True,
    "build": "7",
    "odd name": {"a.b": 1},
}


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        ('facts.os_id = "debian"', True),
        ("facts.os_id == 'debian'", True),
        ('facts.os_id = "Debian"', False),
        ('facts.os ~ "debian*"', True),
        ('facts.os ~ "*ubuntu*"', False),
        ('facts.os_version >= "12.9"', True),
        ('facts.os_version < "12.9"', False),
        ('facts.os_version > "9"', True),
        ("facts.os_version > 12", True),
        ("facts.build = 7", True),
        ('facts.memory_bytes > "4e9"', True),
        ("facts.memory_bytes >= 8e9", True),
        ("facts.memory_bytes < 8e9", False),
        ('facts.users = "bob"', True),
        ('not facts.users = "guest"', True),
        ('facts.users in ("guest", "alice")', True),
        ('facts.nobody = "bob"', False),
        ("has facts.nobody", True),
        ("has facts.battery", False),
        ("not has facts.battery", True),
        ("facts.disks.used_percent > 90", True),
        ("facts.disks.used_percent > 96", False),
        ("facts.cpu.cores = 4 and facts.virtual = true", True),
        ("facts.cpu.model = null", True),
        ("facts.cpu.cores != null", True),
        ("facts.cpu.cores = 5 or facts.cpu.cores = 4", True),
        ("facts.cpu.cores = 5 or facts.cpu.cores = 4 and facts.virtual = false", False),
        ("(facts.cpu.cores = 5 or facts.cpu.cores = 4) and not (facts.virtual = false)", True),
        ('facts."odd name"."a.b" = 1', True),
        ("facts.battery = 1", None),
        ("not facts.battery = 1", None),
        ("facts.battery = 1 or facts.virtual = true", True),
        ("facts.battery = 1 or facts.virtual = false", None),
        ("facts.battery = 1 and facts.virtual = false", False),
        ("facts.battery = 1 and facts.virtual = true", None),
        ("facts.os_id > 5", None),
        ("facts.virtual = 1", None),
        ("facts.cpu.cores.more = 1", None),
        ('facts.cpu ~ "x"', None),
        ("FACTS.cpu.cores = 4 AND NOT facts.virtual = FALSE", True),
    ],
)
def test_what_holds(text: str, truth: bool | None) -> None:
    """Lists mean each thing in them, versions are ordered as people number them, and what is not told is unknown."""
    assert Filter(text).holds(FACTS) is truth


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", 1),
        ("   ", 1),
        ("facts", 6),
        ("facts.", 7),
        ("facts.os", 9),
        ("os = 1", 1),
        ("facts.os = ", 11),
        ("facts.os = debian", 12),
        ("facts.os = 'debian", 12),
        ("facts.os = 1 facts.cpu = 2", 14),
        ("facts.os ~ 4", 12),
        ("facts.os in 4", 13),
        ("facts.os in (4", 15),
        ("facts.os in ()", 14),
        ("(facts.os = 1", 14),
        ("facts.os = 1)", 13),
        ("facts.os = 1 and", 17),
        ("not", 4),
        ("facts.os ; DROP TABLE agents", 10),
        ("facts.os = 1e999", 12),
        ("facts.os = 12abc", 12),
        ("facts.5 = 1", 7),
    ],
)
def test_what_makes_no_sense_is_told_where(text: str, place: int) -> None:
    """A filter that cannot be read says at which character, and what was expected there."""
    with pytest.raises(InvalidFilterError, match=f"at {place}:"):
        Filter(text)


@pytest.mark.parametrize(
    "text",
    [
        "facts.a = '" + "x" * MAX_LENGTH + "'",
        " or ".join(["facts.a = 1"] * (MAX_COMPARISONS + 1)),
        "facts.a in (" + ", ".join(["1"] * (MAX_COMPARISONS + 2)) + ")",
        "(" * (MAX_DEPTH + 2) + "facts.a = 1" + ")" * (MAX_DEPTH + 2),
        "not " * (MAX_DEPTH + 2) + "facts.a = 1",
        "facts" + ".a" * (MAX_STEPS + 1) + " = 1",
        " or ".join(f"facts.a{i} = 1" for i in range(MAX_NAMES + 1)),
    ],
)
def test_its_cost_is_bounded(text: str) -> None:
    """Nobody asks for more than what is cheap to find out."""
    with pytest.raises(InvalidFilterError):
        Filter(text)


scalars = st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | st.text(max_size=8)
facts = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner)),
)
comparisons = st.builds(
    "facts.{}{} {} {}".format,
    st.sampled_from("abcd"),
    st.sampled_from(["", ".a", ".b.c"]),
    st.sampled_from(["=", "!=", "<", "<=", ">", ">="]),
    st.sampled_from(["1", "-2.5", '"x"', "'10'", "true", "null"]),
)
texts = st.recursive(
    comparisons | st.sampled_from(["has facts.a", 'facts.b ~ "*x*"', "facts.c in (1, 'x', null)"]),
    lambda inner: st.one_of(
        st.builds("({}) and ({})".format, inner, inner),
        st.builds("({}) or ({})".format, inner, inner),
        st.builds("not ({})".format, inner),
    ),
    max_leaves=6,
)


@given(facts=facts, one=texts, other=texts)
def test_it_reasons_as_people_do(facts: dict[str, Any], one: str, other: str) -> None:
    """Any filter has an answer for any facts, and the laws of logic hold, with what is unknown as well."""

    def holds(text: str) -> bool | None:
        return Filter(text).holds(facts)

    a, b = holds(one), holds(other)
    assert a in (True, False, None)
    assert holds(f"not ({one})") is (None if a is None else not a)
    assert holds(f"not (({one}) and ({other}))") is holds(f"not ({one}) or not ({other})")
    assert holds(f"({one}) or ({other})") is (True if True in (a, b) else None if None in (a, b) else False)
    assert holds(f"({one}) and ({one})") is a


@given(text=st.text(max_size=80) | st.text(alphabet="facts.ab \"'()=<>~,0123456789eandortihs", max_size=80))
def test_any_text_is_a_filter_or_an_error(text: str) -> None:
    """Whatever is typed, it is read or refused with a code; nothing else happens."""
    with contextlib.suppress(InvalidFilterError):
        assert Filter(text).holds({"a": 1, "b": "x"}) in (True, False, None)


@given(versions=st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=4), min_size=2, max_size=2))
def test_versions_are_ordered_by_their_numbers(versions: list[list[int]]) -> None:
    """12.10 is newer than 12.9, whatever letters say."""
    one, other = (".".join(map(str, version)) for version in versions)
    assert Filter(f"facts.v < '{other}'").holds({"v": one}) is (versions[0] < versions[1])
