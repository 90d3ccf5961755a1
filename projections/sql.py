"""Named statements from the ``.sql`` file beside the module that owns them."""

import functools
import re
from importlib.resources import files
from typing import LiteralString, cast

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@functools.cache
def load(module: str) -> dict[str, LiteralString]:
    """Read ``<module>.sql``.

    Args:
        module: the name of a module of this package.

    Returns:
        From each ``-- name: x`` to the text up to the next. The text is ours, never a user's: hence LiteralString.
    """
    text = files("projections").joinpath(f"{module}.sql").read_text(encoding="utf-8")
    _, *parts = _NAME.split(text)
    names, bodies = parts[::2], parts[1::2]
    return {name: cast("LiteralString", body.strip()) for name, body in zip(names, bodies, strict=True)}


def each(statements: LiteralString) -> list[LiteralString]:
    """Statements one by one, of a text of ours that has several; each ends with a semicolon at a line's end."""
    return [part for part in (text.strip().removesuffix(";") for text in statements.split(";\n")) if part]
