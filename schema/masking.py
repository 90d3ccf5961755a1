"""Secrets out of what scripts print, however it is cut into pieces.

Every byte that belongs to an occurrence of a secret is masked, and a run of such bytes becomes `MASK`. What that comes
to does not depend on the pieces in which the bytes come: a byte is let go only once it is certain of it. For that, an
end that could be the beginning of a secret is held back.

Held are the secret as it is, its lines where it has several, and the ways in which programs commonly write it: in
base 64, in hex, percent-encoded, escaped in JSON, and in UTF-16. In base 64 and hex also where it is a part of what was
encoded, as in `Authorization: Basic`, which is name and password in one.
"""

import base64
import json
from collections.abc import Iterable, Iterator
from itertools import pairwise
from urllib.parse import quote, quote_plus

MASK = b"********"
_SHORTEST_LINE = 4
_MANY_LINES = 128
"""Of a secret of more lines (a private key has fewer), single lines are looked for neither in hex nor inside of base
64: each way of writing each line is one more search through all that is printed."""
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def _in_base64(raw: bytes, offsets: Iterable[int] = range(3)) -> Iterator[bytes]:
    """What base 64 makes of bytes that stand anywhere in what is encoded.

    Three bytes become four characters, so it comes to three ways, by what stands before. Of each: the characters that
    are made of nothing but these bytes, and what it looks like where they are the end of it. Four bytes make four
    characters or more, so that nothing is looked for that is shorter than the shortest secret.
    """
    for before in offsets:
        encoded = base64.b64encode(bytes(before) + raw)
        first = (before * 8 + 5) // 6
        for form in (encoded[first : (before + len(raw)) * 8 // 6], encoded[first:].rstrip(b"="), encoded[first:]):
            yield form
            yield form.translate(_URL_SAFE)


def patterns(secrets: Iterable[str]) -> list[bytes]:
    """The byte strings that give a secret away."""
    found: set[bytes] = set()
    for secret in secrets:
        whole = {secret, secret.strip()}
        lines = secret.strip().splitlines()
        forms = whole | {line.strip() for line in lines} if len(lines) > 1 else whole
        for form in forms:
            if len(form) < _SHORTEST_LINE:
                continue
            raw = form.encode()
            found.add(raw)
            if form in whole or len(lines) <= _MANY_LINES:
                found |= {*_in_base64(raw), raw.hex().encode(), raw.hex().upper().encode()}
            else:
                found |= {*_in_base64(raw, (0,))}
            found |= {quote(form, safe="").encode(), quote_plus(form).encode(), form.encode("utf-16-le")}
            found |= {json.dumps(form)[1:-1].encode(), json.dumps(form, ensure_ascii=False)[1:-1].encode()}
    return sorted(found, key=len, reverse=True)


class Mask:
    """Masks one stream.

    Args:
        secrets: what is never to be seen.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        ordered = sorted(patterns(secrets))
        # In this order whatever begins with a pattern comes right after it. So a stream is searched for those alone
        # that begin with no other, and an end is compared with those alone that no other begins with.
        self._longer: dict[bytes, list[bytes]] = {}
        root: bytes | None = None
        for one in ordered:
            if root is not None and one.startswith(root):
                self._longer[root].append(one)
            else:
                root = one
                self._longer[root] = []
        self._longest = [one for one, after in pairwise([*ordered, b""]) if not after.startswith(one)]
        self._held = b""
        self._covered = 0
        """So many of the first bytes held belong to an occurrence that began before them or with them."""
        self._in_run = False
        """The last byte let go was masked."""

    def feed(self, data: bytes) -> bytes:
        """Take the next piece; returns what can be let go."""
        if not self._longest:
            return data
        return self._let_go(self._held + data, last=False)

    def finish(self) -> bytes:
        """What is left, once no more comes."""
        return self._let_go(self._held, last=True)

    def _let_go(self, buffer: bytes, *, last: bool) -> bytes:
        certain = (
            len(buffer) if last else min((self._begins(buffer, one) for one in self._longest), default=len(buffer))
        )
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
        for pattern, longer in self._longer.items():
            at = buffer.find(pattern)
            while at >= 0:
                found.append((at, at + len(pattern)))
                found += [(at, at + len(one)) for one in longer if buffer.startswith(one, at)]
                at = buffer.find(pattern, at + 1)
        merged: list[tuple[int, int]] = []
        for start, end in sorted(found):
            if merged and start <= merged[-1][1]:
                merged[-1] = merged[-1][0], max(end, merged[-1][1])
            else:
                merged.append((start, end))
        return merged

    @staticmethod
    def _begins(buffer: bytes, pattern: bytes) -> int:
        """Where an occurrence may begin that is not whole yet; the buffer's end if none may."""
        at = buffer.find(pattern[:1], max(0, len(buffer) - len(pattern) + 1))
        while at >= 0:
            if pattern.startswith(memoryview(buffer)[at:]):
                return at
            at = buffer.find(pattern[:1], at + 1)
        return len(buffer)


def mask_all(secrets: Iterable[str], data: bytes) -> bytes:
    """Mask what is whole."""
    mask = Mask(secrets)
    return mask.feed(data) + mask.finish()
