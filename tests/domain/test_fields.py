"""Custom fields hold what their definition says, and a machine has the nearest value."""

from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import DomainError, FieldRemovedError, InvalidValueError, RequiredFieldError, UnknownFieldError
from domain.fields import Field, FieldKind, FieldsFilled, FieldTerms, FieldValues, Holder, as_text, nearest

ID = UUID(int=1)
EVERYWHERE = tuple(Holder)


def terms(kind: str = "text", **more: Any) -> FieldTerms:
    return FieldTerms(**{"kind": FieldKind(kind), "on": EVERYWHERE} | more)


@pytest.mark.parametrize(
    ("wanted", "good", "bad"),
    [
        (terms(), ["", "x", "a\nb"], [1.0, True, ("a",), "x" * 5000, "a\x00b"]),
        (terms("number"), [0.0, -1.5, 2**60], [True, "1", float("nan"), float("inf")]),
        (terms("checkbox"), [True, False], ["true", 1.0]),
        (terms("choice", choices=("a", "b")), ["a"], ["c", ("a",)]),
        (terms("multiple", choices=("a", "b")), [(), ("a",), ("b", "a")], ["a", ("a", "a"), ("c",)]),
        (terms("date"), ["2030-02-28"], ["2030-02-30", "20300228", "soon"]),
    ],
)
def test_a_field_holds_its_own_kind(wanted: FieldTerms, good: list[Any], bad: list[Any]) -> None:
    """What fits is taken, comes back from the log as it was, and is a text for commands; what does not is refused."""
    wanted.check()
    for value in good:
        wanted.must_accept("x", value)
        event = FieldsFilled(holder=Holder.AGENT, holder_id=ID, values={"x": value})
        assert msgspec.json.decode(msgspec.json.encode(event), type=FieldsFilled) == event
        assert isinstance(as_text(value), str)
    for value in bad:
        with pytest.raises(InvalidValueError):
            wanted.must_accept("x", value)


@pytest.mark.parametrize(
    "wrong",
    [
        terms(on=()),
        terms(on=(Holder.SITE, Holder.SITE)),
        terms("choice"),
        terms(choices=("a",)),
        terms("choice", choices=("a", "a")),
        terms("multiple", choices=("a,b",)),
        terms("choice", choices=("a",), default="b"),
        terms("number", default="b"),
    ],
)
def test_a_definition_that_cannot_be_meant_is_refused(wrong: FieldTerms) -> None:
    """It is on something, has choices where it chooses, and its default is one of its values."""
    with pytest.raises(InvalidValueError):
        Field(ID).define("x", wrong)


@pytest.mark.parametrize(
    ("value", "text"), [(True, "true"), (5.0, "5"), (2.5, "2.5"), (("a", "b"), "a,b"), (-0.0, "0"), (1e300, "1e+300")]
)
def test_values_as_commands_see_them(value: Any, text: str) -> None:
    """As a person would write them."""
    assert as_text(value) == text


maybe = st.dictionaries(st.just("x"), st.sampled_from(["near", "far", "unfit"]), max_size=1)


@given(
    agent=maybe, site=maybe, client=maybe, on=st.sets(st.sampled_from(EVERYWHERE), min_size=1), default=st.booleans()
)
def test_the_nearest_that_fits_counts(
    agent: dict[str, Any], site: dict[str, Any], client: dict[str, Any], on: set[Holder], default: bool
) -> None:
    """Machine, site, client, default, in this order; what the field is not on or does not hold is passed over."""
    field = terms("choice", choices=("near", "far", "d"), on=tuple(sorted(on)), default="d" if default else None)
    filled = [(Holder.AGENT, agent), (Holder.SITE, site), (Holder.CLIENT, client)]
    fits = [one["x"] for holder, one in filled if holder in on and one.get("x", "unfit") != "unfit"]
    assert nearest("x", field, filled) == (fits[0] if fits else "d" if default else None)
    assert nearest("x", None, filled) is None


def test_filling_in_changes_what_is_named_and_no_more() -> None:
    """Others stay; null empties one; unknown, unfit and required ones are refused, and then nothing changes."""
    fields = {"a": terms(), "must": terms(required=True), "other": terms(on=(Holder.CLIENT,))}
    filled = FieldValues(ID)
    filled.fill(Holder.AGENT, ID, {"a": "1", "must": "2"}, fields)
    filled.fill(Holder.AGENT, ID, {"a": None}, fields)
    assert filled.values == {"must": "2"}
    refused: list[tuple[dict[str, Any], type[DomainError]]] = [
        ({"must": None}, RequiredFieldError),
        ({"other": "x"}, UnknownFieldError),
        ({"none": "x"}, UnknownFieldError),
        ({"a": True}, InvalidValueError),
    ]
    for wrong, error in refused:
        with pytest.raises(error):
            filled.fill(Holder.AGENT, ID, wrong, fields)
    filled.fill(Holder.AGENT, ID, {"gone": None}, fields)
    assert (filled.values, filled.version) == ({"must": "2"}, 3)


def test_a_field_is_removed_once_and_may_come_back() -> None:
    """Removed twice is an error; defined again it counts."""
    field = Field(ID)
    field.define("x", terms())
    field.remove()
    with pytest.raises(FieldRemovedError):
        field.remove()
    field.define("x", terms("number"))
    assert field.terms is not None
