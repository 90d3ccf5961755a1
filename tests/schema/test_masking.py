"""Secrets do not show in what scripts print, however it is cut up and written."""

import base64
from collections.abc import Sequence
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema.masking import MASK, Hidden, Mask, mask_all, patterns

# Few letters, so that secrets overlap with themselves, with each other and with the text.
texts = st.text("ab/ü\n", max_size=60)
secrets = st.lists(st.text("ab/ü\n", min_size=4, max_size=12), min_size=1, max_size=3)


def in_pieces(mask: Mask, data: bytes, cuts: Sequence[int]) -> bytes:
    ends = sorted(cut % (len(data) + 1) for cut in cuts)
    pieces = [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]
    return b"".join(mask.feed(piece) for piece in pieces) + mask.finish()


def expected(hidden: list[str], data: bytes) -> bytes:
    """The definition itself: every byte of every occurrence is masked, a run of them by one mask."""
    covered = [False] * len(data)
    for pattern in patterns(hidden):
        for at in range(len(data) - len(pattern) + 1):
            if data.startswith(pattern, at):
                covered[at : at + len(pattern)] = [True] * len(pattern)
    out = b""
    for at, byte in enumerate(data):
        if not covered[at]:
            out += bytes([byte])
        elif at == 0 or not covered[at - 1]:
            out += MASK
    return out


@given(hidden=secrets, text=texts, put=st.lists(st.integers(0, 60), max_size=3), cuts=st.lists(st.integers(0, 10**6)))
def test_what_is_masked_does_not_depend_on_the_pieces(
    hidden: list[str], text: str, put: list[int], cuts: list[int]
) -> None:
    """However the bytes come, all of every occurrence is masked, and nothing else is."""
    for at in put:
        text = text[:at] + hidden[at % len(hidden)] + text[at:]
    data = text.encode()
    assert in_pieces(Mask(Hidden(hidden)), data, cuts) == expected(hidden, data) == mask_all(Hidden(hidden), data)


@given(
    hidden=st.text(min_size=4, max_size=40).filter(lambda text: len(text.strip()) >= 4), before=st.binary(max_size=9)
)
def test_no_way_of_writing_it_gives_it_away(hidden: str, before: bytes) -> None:
    """As it is, in base 64, percent-encoded, in UTF-16: none of it is left."""
    try:
        raw = hidden.encode()
    except UnicodeEncodeError:
        return
    for form in (raw, base64.b64encode(raw), quote(hidden, safe="").encode(), hidden.encode("utf-16-le")):
        assert form not in mask_all(Hidden([hidden]), before + form + b"\n")


@given(
    hidden=st.text(st.characters(exclude_categories=["Cs"]), min_size=4, max_size=40).filter(
        lambda text: len(text.strip()) >= 4
    ),
    before=st.text(st.characters(exclude_categories=["Cs"]), max_size=9),
    after=st.text(st.characters(exclude_categories=["Cs"]), max_size=9),
)
def test_nor_does_what_powershell_is_told_in_base64(hidden: str, before: str, after: str) -> None:
    """An `-EncodedCommand` is base 64 of UTF-16: of a secret within it nothing is left that is made of it alone."""
    lead, raw = before.encode("utf-16-le"), hidden.encode("utf-16-le")
    printed = base64.b64encode(lead + raw + after.encode("utf-16-le"))
    first, end = (len(lead) * 8 + 5) // 6, (len(lead) + len(raw)) * 8 // 6
    left = mask_all(Hidden([hidden]), b"-EncodedCommand " + printed)
    assert MASK in left
    assert printed[first:end] not in left


@given(
    hidden=st.text(st.characters(exclude_categories=["Cs"]), min_size=4, max_size=40).filter(
        lambda text: len(text.strip()) >= 4
    ),
    before=st.binary(max_size=9),
    after=st.binary(max_size=9),
    cuts=st.lists(st.integers(0, 10**6), max_size=4),
)
def test_nor_does_what_is_encoded_together_with_it(hidden: str, before: bytes, after: bytes, cuts: list[int]) -> None:
    """Whatever stands before and after it in base 64 or hex, no character is left that is made of the secret alone."""
    raw = hidden.encode()
    whole = before + raw + after
    first, end = (len(before) * 8 + 5) // 6, (len(before) + len(raw)) * 8 // 6
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        printed = encode(whole)
        if not after:
            end = len(printed)
        left = in_pieces(Mask(Hidden([hidden])), b"x: " + printed + b"\n", cuts)
        assert MASK in left
        assert printed[first:end] not in left
    for printed in (whole.hex().encode(), whole.hex().upper().encode()):
        left = in_pieces(Mask(Hidden([hidden])), printed, cuts)
        assert MASK in left
        assert printed[len(before) * 2 :][: len(raw) * 2] not in left


def test_no_form_of_a_short_secret_is_shorter_than_it() -> None:
    """The shortest secret masks nothing of fewer than four bytes."""
    assert min(map(len, patterns(["abcd", "1234", "zz~z"]))) == 4


@pytest.mark.parametrize("lines", [2, 2_000])
def test_each_line_of_a_secret_is_masked_however_many_there_are(lines: int) -> None:
    """As it is, in hex, in base 64 within something else, and as PowerShell is told it."""
    hidden = Hidden(["\n".join(f"line-{at:04}" for at in range(lines))])
    for line in (b"line-0001", b"line-0001".hex().encode(), base64.b64encode(b"line-0001")):
        assert mask_all(hidden, b"a " + line + b" b") == b"a ******** b"
    for told in (b"root:line-0001".decode().encode("utf-16-le"), b"root:line-0001"):
        printed = base64.b64encode(told)
        shown = mask_all(hidden, printed)
        assert shown.endswith(MASK)
        assert printed.startswith(shown.removesuffix(MASK))
        assert len(shown) - len(MASK) < 20


@pytest.mark.parametrize(
    ("hidden", "printed", "shown"),
    [
        (["hunter22"], b"a hunter22 b", b"a ******** b"),
        (["abcd", "bcde"], b"xabcdex", b"x********x"),
        (["abcd"], b"abcdabcd", b"********"),
        (["line one\nline two"], b"> line two\n", b"> ********\n"),
        (["hunter22"], b"> Authorization: Basic cm9vdDpodW50ZXIyMg==\n", b"> Authorization: Basic cm9vdDp********\n"),
        (["hunter22"], b"hunter22\n".hex().upper().encode(), b"********0A"),
        ([], b"hunter22", b"hunter22"),
    ],
)
def test_examples(hidden: list[str], printed: bytes, shown: bytes) -> None:
    """What a reader sees."""
    assert mask_all(Hidden(hidden), printed) == shown


def test_only_what_could_be_the_beginning_of_a_secret_is_held_back() -> None:
    """Live output is not delayed by a secret that it does not begin."""
    mask = Mask(Hidden(["hunter22"]))
    assert mask.feed(b"password: hunt") == b"password: "
    assert mask.feed(b"ing\n") == b"hunting\n"
