"""Placeholders in what is run: ``{{secret.NAME}}``, ``{{agent.x}}``, ``{{site.x}}``, ``{{client.x}}``, ``{{field.x}}``.

A value is data and never code, whatever it holds. In arguments and environment variables it takes the place of its
placeholder, within that one argument or variable. In code (a script's body, a shell line) it takes no place at all: the
placeholder becomes the name of an environment variable, written as the shell writes that, and the value travels in the
variable. Each text is read once: a value that looks like a placeholder stays as it is.

What begins like a placeholder and is none is refused rather than passed on. ``{{!agent.x}}`` stands for the text
``{{agent.x}}`` (one ``!`` goes); all other double braces are text.
"""

import enum
import re
from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from domain.errors import BadPlaceholderError, PlaceholderInCodeError, SecretInArgumentError
from domain.scripts import Shell

KINDS = ("secret", "agent", "site", "client", "field")
SECRET = "secret"  # noqa: S105 -- a kind of placeholder
NAME = r"[A-Za-z][A-Za-z0-9_]{0,63}"
_LIKE = re.compile(r"\{\{(?P<escape>!*)\s*(?P<kind>" + "|".join(KINDS) + r")\.(?P<rest>[^{}\n]{0,200})\}\}")
_NAME = re.compile(NAME)

_REFERENCES: dict[Shell, str] = {
    Shell.SH: "${%s}",
    Shell.BASH: "${%s}",
    Shell.PYTHON: '__import__("os").environ["%s"]',
    Shell.POWERSHELL: "${env:%s}",
}
"""How code names an environment variable. Not cmd: it puts a variable's value into the line before it reads it."""
_HIDING = frozenset({Shell.SH, Shell.BASH, Shell.PYTHON})
"""Shells that an agent can give arguments to without showing them in the machine's list of processes."""


class ScopeKind(enum.StrEnum):
    """What a secret counts for, the widest first."""

    FLEET = "fleet"
    CLIENT = "client"
    SITE = "site"
    AGENT = "agent"


def narrower(one: ScopeKind, other: ScopeKind) -> ScopeKind:
    """The narrower of both."""
    return max(one, other, key=list(ScopeKind).index)


class Placeholder(msgspec.Struct, frozen=True, order=True):
    """One name of one kind; case does not matter."""

    kind: str
    name: str

    @property
    def key(self) -> str:
        """As values are keyed by it: ``agent.name``."""
        return f"{self.kind}.{self.name}"

    @property
    def variable(self) -> str:
        """The environment variable that its value travels in to code."""
        return f"FLEETLOG_{self.kind}_{self.name}".upper()


class Data(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a command's placeholders stand for. A command without it is plain text, with whatever braces."""

    placeholders: tuple[str, ...] = ()
    """Those that are no secrets, as ``agent.name``."""
    given: dict[str, str] = {}
    """Their values, fixed when the command was queued."""
    secrets: tuple[str, ...] = ()
    """Names of secrets; their values are known to nobody before the command is delivered."""
    widest: ScopeKind = ScopeKind.FLEET
    """No secret counts that is of more than that: whoever asked may do nothing there."""


def found_in(text: str) -> set[Placeholder]:
    """The placeholders of a text.

    Raises:
        BadPlaceholderError: something begins like one and is none.
    """
    return {part for part in _parts(text) if isinstance(part, Placeholder)}


def is_template(texts: Iterable[str]) -> bool:
    """Whether there is anything to be put in or unescaped."""
    return any(_LIKE.search(text) for text in texts)


def fill(text: str, values: Mapping[str, str]) -> str:
    """Put values in the place of placeholders; for arguments and variables, never for code.

    Args:
        text: the template.
        values: by `Placeholder.key`; one for each of its placeholders.
    """
    return "".join(values[part.key] if isinstance(part, Placeholder) else part for part in _parts(text))


def refer(text: str, shell: Shell) -> str:
    """Code whose placeholders are the names of environment variables.

    Raises:
        PlaceholderInCodeError: the shell has no way to name a variable without running what it holds.
    """
    return "".join(_reference(part, shell) if isinstance(part, Placeholder) else part for part in _parts(text))


def variables(code: str, values: Mapping[str, str]) -> dict[str, str]:
    """The environment variables that `refer` names, with their values."""
    return {part.variable: values[part.key] for part in sorted(found_in(code))}


def check_places(shell: Shell, code: str, args: Iterable[str]) -> None:
    """Refuse placeholders where their values could be run, or seen by others.

    Raises:
        PlaceholderInCodeError, SecretInArgumentError, BadPlaceholderError: see their texts.
    """
    refer(code, shell)
    named = {part for text in args for part in found_in(text)}
    if named and shell is Shell.CMD:
        raise PlaceholderInCodeError(
            "A placeholder in an argument of a cmd script would be read as code; pass it in an environment variable "
            "and take it from there with delayed expansion."
        )
    if shell not in _HIDING and any(part.kind == SECRET for part in named):
        raise SecretInArgumentError


def _reference(part: Placeholder, shell: Shell) -> str:
    form = _REFERENCES.get(shell)
    if form is None:
        raise PlaceholderInCodeError
    return form % part.variable


def _parts(text: str) -> Iterator[str | Placeholder]:
    """A text in pieces: what it says, and its placeholders."""
    at = 0
    for match in _LIKE.finditer(text):
        yield text[at : match.start()]
        at = match.end()
        escape = match["escape"]
        if escape:
            yield "{{" + text[match.start() + 3 : match.end()]
            continue
        name = match["rest"].strip()
        if not _NAME.fullmatch(name):
            raise BadPlaceholderError(
                f"{match[0]!r} begins like a placeholder and is none: names are letters, digits and '_'. "
                f"Write {'{{!' + match[0][2:]!r} if it is meant as text."
            )
        yield Placeholder(match["kind"], name.lower())
    yield text[at:]


Resolve = Callable[[Placeholder], str | None]
"""The value of a placeholder that is no secret; None if it has none."""
