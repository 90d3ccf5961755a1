"""Output as it appears, and all of it in the end."""

from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateways.cli.watching import Shown

ID = "0198c0de-0000-7000-8000-000000000001"


class Kept:
    """Stands for the API: holds the whole output of an ended command."""

    def __init__(self, whole: bytes, piece: int) -> None:
        self.whole = whole
        self.piece = piece

    def content(self, path: str, **query: Any) -> Iterator[bytes]:
        assert path == f"/commands/{ID}/output"
        assert query == {"stream": "stdout"}
        for start in range(0, len(self.whole), self.piece):
            yield self.whole[start : start + self.piece]


@given(
    whole=st.binary(max_size=60),
    pieces=st.lists(st.tuples(st.integers(0, 70), st.integers(0, 20)), max_size=20),
    piece=st.integers(1, 16),
)
def test_whatever_is_lost_or_doubled_live_the_whole_is_shown_once(
    whole: bytes, pieces: list[tuple[int, int]], piece: int
) -> None:
    """Live pieces may come in any order, twice or never: what was written in the end is the output, byte for byte."""
    written = bytearray()
    shown = Shown(lambda _stream, data: written.extend(data))
    for offset, length in pieces:
        shown.live(1, "stdout", offset, whole[offset : offset + length])
        assert whole.startswith(bytes(written))
    command = {"id": ID, "attempt": 1, "result": {"stdout": {"size": len(whole)}, "stderr": {"size": 0}}}
    shown.rest(Kept(whole, piece), command)  # type: ignore[arg-type]
    assert bytes(written) == whole


def test_a_new_attempt_begins_anew() -> None:
    """The output of an attempt that was tried again does not count against that of the next."""
    written: list[bytes] = []
    shown = Shown(lambda _stream, data: written.append(data))
    shown.live(1, "stdout", 0, b"first")
    shown.live(2, "stdout", 0, b"second")
    shown.live(1, "stdout", 5, b"late")
    assert written == [b"first", b"second"]
