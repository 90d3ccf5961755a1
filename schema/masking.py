"""Secrets out of what scripts print, however it is cut into pieces.

Every byte that belongs to an occurrence of a secret is masked, and a run of such bytes becomes `MASK`. What that comes
to does not depend on the pieces in which the bytes come: a byte is let go only once it is certain of it. For that, an
end that could be the beginning of a secret is held back.

Held are the secret as it is, its lines where it has several, and the ways in which programs commonly write it: in
base 64, percent-encoded, escaped in JSON, and in UTF-16.
"""

import base64
import json
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

MASK = b"********"
_SHORTEST_LINE = 4


def patterns(secrets: Iterable[str]) -> list[bytes]:
    """The byte strings that give a secret away."""
    found: set[bytes] = set()
    for secret in secrets:
        forms = {secret, secret.strip()}
        lines = secret.strip().splitlines()
        if len(lines) > 1:
            forms |= {line.strip() for line in lines}
        for form in forms:
            if len(form) < _SHORTEST_LINE:
                continue
            raw = form.encode()
            encoded = base64.b64encode(raw)
            found |= {raw, encoded, encoded.rstrip(b"="), base64.urlsafe_b64encode(raw).rstrip(b"=")}
            found |= {quote(form, safe="").encode(), quote_plus(form).encode(), form.encode("utf-16-le")}
            found |= {json.dumps(form)[1:-1].encode(), json.dumps(form, ensure_ascii=False)[1:-1].encode()}
    return sorted(found, key=len, reverse=True)


class Mask:
    """Masks one stream.

    Args:
        secrets: what is never to be seen.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._patterns = patterns(secrets)
        self._held = b""
        self._covered = 0
        """So many of the first bytes held belong to an occurrence that began before them or with them."""
        self._in_run = False
        """The last byte let go was masked."""

    def feed(self, data: bytes) -> bytes:
        """Take the next piece; returns what can be let go."""
        if not self._patterns:
            return data
        return self._let_go(self._held + data, last=False)

    def finish(self) -> bytes:
        """What is left, once no more comes."""
        return self._let_go(self._held, last=True)

    def _let_go(self, buffer: bytes, *, last: bool) -> bytes:
        certain = (
            len(buffer) if last else min((self._begins(buffer, one) for one in self._patterns), default=len(buffer))
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
        for pattern in self._patterns:
            at = buffer.find(pattern)
            while at >= 0:
                found.append((at, at + len(pattern)))
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
        at = max(0, len(buffer) - len(pattern) + 1)
        while 0 <= at < len(buffer):
            if pattern.startswith(buffer[at:]):
                return at
            at = buffer.find(pattern[:1], at + 1)
        return len(buffer)


def mask_all(secrets: Iterable[str], data: bytes) -> bytes:
    """Mask what is whole."""
    mask = Mask(secrets)
    return mask.feed(data) + mask.finish()
