"""Secrets out of what scripts print, however it is cut into pieces.

Every byte that belongs to an occurrence of a secret is masked, and a run of such bytes becomes `MASK`. What that comes
to does not depend on the pieces in which the bytes come: a byte is let go only once it is certain of it. For that, an
end that could be the beginning of a secret is held back.

Held are the secret as it is, its lines where it has several, and the ways in which programs commonly write it: in
base 64, in hex, percent-encoded, escaped in JSON, and in UTF-16; that in base 64 and hex, too, for PowerShell's
`-EncodedCommand`. In base 64 and hex also where it is a part of what was encoded, as in `Authorization: Basic`, which
is name and password in one.
"""

import base64
import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from urllib.parse import quote, quote_plus

from ahocorasick_rs import BytesAhoCorasick, MatchKind

MASK = b"********"
_SHORTEST = 4
"""A line of fewer characters is no secret, nor is a part of one that stands before or after what was lost."""
_HEAD = 8
"""By so many of its first bytes the beginning of a pattern is found."""
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def _in_base64(raw: bytes) -> Iterator[bytes]:
    """What base 64 makes of bytes that stand anywhere in what is encoded.

    Three bytes become four characters, so it comes to three ways, by what stands before. Of each: the characters that
    are made of nothing but these bytes, and what it looks like where they are the end of it. Four bytes make four
    characters or more, so that nothing is looked for that is shorter than the shortest secret.
    """
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + raw)
        first = (before * 8 + 5) // 6
        for form in (encoded[first : (before + len(raw)) * 8 // 6], encoded[first:].rstrip(b"="), encoded[first:]):
            yield form
            yield form.translate(_URL_SAFE)


def patterns(secrets: Iterable[str]) -> list[bytes]:
    """The byte strings that give a secret away, in order."""
    found: set[bytes] = set()
    for secret in secrets:
        lines = secret.strip().splitlines()
        for form in {secret, secret.strip(), *(line.strip() for line in lines)}:
            if len(form) < _SHORTEST:
                continue
            for raw in (form.encode(), form.encode("utf-16-le")):
                found |= {raw, *_in_base64(raw), raw.hex().encode(), raw.hex().upper().encode()}
            found |= {quote(form, safe="").encode(), quote_plus(form).encode()}
            found |= {json.dumps(form)[1:-1].encode(), json.dumps(form, ensure_ascii=False)[1:-1].encode()}
    return sorted(found)


class _Beginnings:
    """Finds the beginning of a pattern at the end of a text."""

    def __init__(self, ordered: Sequence[bytes]) -> None:
        self._ordered = ordered
        self._longest = max(map(len, ordered), default=1)
        self._heads = BytesAhoCorasick(sorted({one[:_HEAD] for one in ordered}), MatchKind.Standard)

    def at(self, text: bytes) -> int:
        """Where one may begin that is not whole yet; the text's end if none may."""
        first = max(0, len(text) - self._longest + 1)
        # What is shorter than its head is looked at wherever it stands.
        short = range(max(first, len(text) - _HEAD + 1), len(text))
        heads = self._heads.find_matches_as_indexes(text[first:], overlapping=True)
        for at in sorted({first + start for _, start, _ in heads}.union(short)):
            begun = text[at:]
            place = bisect_left(self._ordered, begun)
            if place < len(self._ordered) and self._ordered[place] == begun:
                place += 1
            if place < len(self._ordered) and self._ordered[place].startswith(begun):
                return at
        return len(text)


class Hidden:
    """What is never to be seen; any number of streams may share it, and it is made ready as the first one needs it.

    Args:
        secrets: the values.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = frozenset(secrets)

    def __bool__(self) -> bool:
        return bool(self._secrets)

    def occurrences(self, text: bytes) -> list[tuple[int, int]]:
        """Where they stand, each from and to."""
        return [(start, end) for _, start, end in self._search.find_matches_as_indexes(text, overlapping=True)]

    def begins(self, text: bytes) -> int:
        """Where one may begin that is not whole yet; the text's end if none may."""
        return self._beginnings.at(text)

    def holds(self, text: bytes) -> bool:
        """Whether all of it is a part of one."""
        return any(text in one for one in self._ordered)

    def ends(self, text: bytes) -> int:
        """How much of the text's beginning may be the end of one that began before it."""
        return len(text) - self._endings.at(text[::-1])

    @cached_property
    def _ordered(self) -> list[bytes]:
        return patterns(self._secrets)

    @cached_property
    def _search(self) -> BytesAhoCorasick:
        return BytesAhoCorasick(self._ordered, MatchKind.Standard)

    @cached_property
    def _beginnings(self) -> _Beginnings:
        return _Beginnings(self._ordered)

    @cached_property
    def _endings(self) -> _Beginnings:
        return _Beginnings(sorted(one[::-1] for one in self._ordered))


class Mask:
    """Masks one stream.

    Args:
        hidden: what is never to be seen.
    """

    def __init__(self, hidden: Hidden) -> None:
        self.hidden = hidden
        """Whoever learns of more gives it more; what was let go by then stays as it was."""
        self._held = b""
        self._covered = 0
        """So many of the first bytes held belong to an occurrence that began before them or with them."""
        self._in_run = False
        """The last byte let go was masked."""
        self._after_gap = False
        """What is held came after missing bytes, and all of it may be from the midst of a secret."""

    def feed(self, data: bytes) -> bytes:
        """Take the next piece; returns what can be let go."""
        if not self.hidden:
            return data
        buffer = self._held + data
        if self._after_gap:
            if self.hidden.holds(buffer):
                self._held = buffer
                return b""
            self._close_gap(buffer)
        return self._let_go(buffer, last=False)

    def finish(self) -> bytes:
        """What is left, once no more comes."""
        if self._after_gap:
            self._close_gap(self._held)
        return self._let_go(self._held, last=True) if self._held else b""

    def skip(self) -> int:
        """Bytes are missing from here on: forget what is held, of which nobody knows how it went on.

        Returns:
            How much that is. What is fed next came after missing bytes: its first ones may be the end of a secret.
        """
        forgotten = len(self._held)
        self._held, self._covered = b"", 0
        self._in_run = False
        self._after_gap = True
        return forgotten

    def _close_gap(self, buffer: bytes) -> None:
        ended = self.hidden.ends(buffer)
        self._covered = ended if ended >= _SHORTEST else 0
        self._after_gap = False

    def _let_go(self, buffer: bytes, *, last: bool) -> bytes:
        certain = len(buffer) if last else self.hidden.begins(buffer)
        runs = self._runs(buffer)
        out: list[bytes] = []
        at = 0
        for start, end in runs:
            if start >= certain:
                break
            if start > at:
                out.append(buffer[at:start])
                self._in_run = False
            if not self._in_run:
                out.append(MASK)
                self._in_run = True
            at = min(end, certain)
        if at < certain:
            out.append(buffer[at:certain])
            self._in_run = False
        self._held = buffer[certain:]
        self._covered = max((end - certain for start, end in runs if start <= certain < end), default=0)
        return b"".join(out)

    def _runs(self, buffer: bytes) -> list[tuple[int, int]]:
        """The stretches of the buffer that are masked, in order and apart from each other."""
        found = [(0, self._covered)] if self._covered else []
        found += self.hidden.occurrences(buffer)
        merged: list[tuple[int, int]] = []
        for start, end in sorted(found):
            if merged and start <= merged[-1][1]:
                merged[-1] = merged[-1][0], max(end, merged[-1][1])
            else:
                merged.append((start, end))
        return merged


def mask_all(hidden: Hidden, data: bytes) -> bytes:
    """Mask what is whole."""
    mask = Mask(hidden)
    return mask.feed(data) + mask.finish()
