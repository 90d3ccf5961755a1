"""How words and times stand in a line of a story."""

from datetime import datetime

SHOWN_CHARACTERS = 80


def one_line(text: str) -> str:
    """What came from a machine or a person may hold line breaks or control characters of a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def shown(text: str) -> str:
    """As much of a text as fits into a line."""
    flat = " ".join(text.split())
    return flat if len(flat) <= SHOWN_CHARACTERS else flat[: SHOWN_CHARACTERS - 1] + "…"


def at(moment: datetime | None) -> str:
    """When, as people read it."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC" if moment is not None else "at once"
