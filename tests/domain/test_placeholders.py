"""Placeholders put values where they belong and nowhere else: no value is ever read as code, nor read twice."""

import os
import shlex
import subprocess
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from domain.errors import BadPlaceholderError, DomainError, PlaceholderInCodeError, SecretInArgumentError
from domain.placeholders import (
    KINDS,
    Placeholder,
    check_places,
    fill,
    found_in,
    is_template,
    refer,
    variables,
)
from domain.scripts import Shell

HOSTILE = (
    "'; touch pwned; '",
    '"; touch pwned; "',
    "$(touch pwned)",
    "`touch pwned`",
    "${IFS}touch${IFS}pwned",
    "\ntouch pwned\n",
    "a' 'b\\",
    "{{secret.other}}",
    "{{!agent.name}}",
    "%PATH% & del *",
    '__import__("os").remove("x")',
    "* ? [a-z] ~",
    "-rf",
    "",
)
names = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,10}", fullmatch=True)
placeholders = st.builds(lambda kind, name: Placeholder(kind, name.lower()), st.sampled_from(KINDS), names)
plain = st.text("ab {}!\\$'\"\n", max_size=15).filter(lambda text: not is_template([text]))
values = st.one_of(
    st.sampled_from(HOSTILE), st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))
)


@given(st.lists(st.one_of(plain, placeholders), max_size=6), st.data())
def test_each_value_takes_the_place_of_its_placeholder(parts: list[str | Placeholder], data: st.DataObject) -> None:
    """The text around stays, and what a value holds is never read again, whatever it looks like."""
    spaces = data.draw(st.sampled_from(["", " "]))
    text = "|".join(f"{{{{{spaces}{one.key}{spaces}}}}}" if isinstance(one, Placeholder) else one for one in parts)
    given_values = {one.key: data.draw(values) for one in parts if isinstance(one, Placeholder)}
    want = "|".join(given_values[one.key] if isinstance(one, Placeholder) else one for one in parts)
    assert fill(text, given_values) == want
    assert {one.key for one in found_in(text)} == given_values.keys()


@given(placeholders, st.integers(1, 3))
def test_an_escaped_one_is_text(one: Placeholder, deep: int) -> None:
    """Each time that it is read it loses one exclamation mark, and nothing is put in."""
    marks = "!" * deep
    text = f"{{{{{marks}{one.key}}}}}"
    assert fill(text, {}) == refer(text, Shell.SH) == f"{{{{{marks[1:]}{one.key}}}}}"
    assert not found_in(text)


@pytest.mark.parametrize(
    "text",
    ["{{.Names}}", "{{ name }}", "{{range .}}", "${{ secrets.X }}", "{{agents.name}}", "{{secret}}", "{agent.name}"],
)
def test_other_braces_are_text(text: str) -> None:
    """Templates of other programs pass through, unread."""
    assert not is_template([text])
    assert fill(text, {}) == refer(text, Shell.CMD) == text


@pytest.mark.parametrize("text", ["{{agent.}}", "{{secret.a-b}}", "{{field.x | upper}}", "{{client.1}}", "{{site.ä}}"])
def test_what_begins_like_one_and_is_none_is_refused(text: str) -> None:
    """A slip of the pen is not sent to a thousand machines as text."""
    with pytest.raises(BadPlaceholderError):
        found_in(text)


@pytest.mark.parametrize("shell", [Shell.SH, Shell.BASH])
@settings(max_examples=25)
@given(value=values)
@example(value=HOSTILE[2])
def test_no_value_is_code_to_a_shell(shell: Shell, value: str) -> None:
    """In quotes or bare, between other words: the shell prints what the value is, and does nothing that it says."""
    code = "set -f; IFS=; printf '%s|%s' \"{{field.x}}\" {{field.x}}"
    assert ran([shell, "-c", refer(code, shell)], variables(code, {"field.x": value})) == f"{value}|{value}".encode()


@settings(max_examples=10)
@given(value=values)
def test_no_value_is_code_to_python(value: str) -> None:
    """Where an expression may stand, the value is a string."""
    code = "import sys; sys.stdout.buffer.write(({{field.x}} + '|').encode())"
    assert (
        ran([sys.executable, "-c", refer(code, Shell.PYTHON)], variables(code, {"field.x": value}))
        == (value + "|").encode()
    )


def ran(argv: list[str], env: dict[str, str]) -> bytes:
    done = subprocess.run(argv, env={"PATH": os.environ["PATH"]} | env, capture_output=True, check=False, cwd="/")
    assert done.returncode == 0, (shlex.join(argv), done.stderr)
    return done.stdout


@given(value=values, shell=st.sampled_from([Shell.SH, Shell.BASH, Shell.PYTHON, Shell.POWERSHELL]))
def test_code_is_the_same_whatever_the_value(value: str, shell: Shell) -> None:
    """The value is in a variable, so no byte of it is in the code."""
    code = "run {{secret.db}} {{agent.name}}"
    assert refer(code, shell) == refer(code, shell)
    assert set(variables(code, {"secret.db": value, "agent.name": value})) == {
        "FLEETLOG_SECRET_DB",
        "FLEETLOG_AGENT_NAME",
    }
    assert all(f"FLEETLOG_{name}" in refer(code, shell) for name in ("SECRET_DB", "AGENT_NAME"))


@pytest.mark.parametrize(
    ("shell", "code", "args", "error"),
    [
        (Shell.CMD, "echo {{agent.name}}", (), PlaceholderInCodeError),
        (Shell.CMD, "echo %1", ("{{agent.name}}",), PlaceholderInCodeError),
        (Shell.POWERSHELL, "param($p)", ("{{secret.db}}",), SecretInArgumentError),
        (Shell.POWERSHELL, "echo {{secret.db}}", ("{{agent.name}}",), None),
        (Shell.SH, "echo {{secret.db}}", ("--p={{secret.db}}",), None),
        (Shell.PYTHON, "", ("{{secret.db}}",), None),
        (Shell.CMD, "echo {{!agent.name}}", ("{{.Names}}",), None),
    ],
)
def test_where_a_placeholder_may_stand(
    shell: Shell, code: str, args: tuple[str, ...], error: type[DomainError] | None
) -> None:
    """Not where it would be read as code, and no secret where others could read it."""
    if error is None:
        check_places(shell, code, args)
        return
    with pytest.raises(error):
        check_places(shell, code, args)
