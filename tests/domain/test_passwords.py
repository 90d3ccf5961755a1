"""What a password must be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import WeakPasswordError
from domain.passwords import MAX_LENGTH, MIN_LENGTH, WORST, check_password

GOOD = "four blue Elephants"
TYPED = st.characters(exclude_categories=("Cc", "Cs", "Cn"))


@pytest.mark.parametrize(
    "password",
    [
        "short",
        "x" * 40,
        "abababababab",
        "123456789012",
        "210987654321",
        "abcdefghijklmnop",
        "password1234",
        "Password2026!",
        "P@ssw0rd!!!!",
        "p4$$w0rd2026",
        "passwordpassword",
        "qwertyqwerty1",
        "Fleetlog2026",
        "administrator",
        "correct horse battery staple",
        "y" * MAX_LENGTH + "z",
        "Ada Lovelace 7 bits",
        "ecalevol ada 7 bits",
        "the countess 1815",
        "four blue\x00 Elephants",
    ],
)
def test_what_is_soon_guessed_is_refused(password: str) -> None:
    """Short, uniform, in a row, somebody's name, or what everybody tries first; the error never says it."""
    with pytest.raises(WeakPasswordError) as refused:
        check_password(
            password, "Ada Lovelace" if "da" in password or "ad" in password else "x", "countess@example.com"
        )
    assert password not in refused.value.detail


@pytest.mark.parametrize("password", [GOOD, "k9#vTq2!mZx0", "ein Lied für Zoë", "日本語のとても長い合言葉です"])
def test_what_is_long_and_unusual_is_taken(password: str) -> None:
    """No rule asks for kinds of characters."""
    assert check_password(password, "ada") == password


@given(st.sampled_from(sorted(WORST)), st.integers(1, 6), st.text("0123456789!?.-_ ", max_size=10), st.booleans())
def test_a_worst_word_is_refused_however_it_is_dressed(word: str, times: int, end: str, upper: bool) -> None:
    """Repeated, in capitals, with figures and marks after it."""
    password = (word.upper() if upper else word) * times + end
    with pytest.raises(WeakPasswordError):
        check_password(password, "ada")


@given(st.text(TYPED, min_size=10, max_size=60), st.text("abcdefgh", min_size=4, max_size=10))
def test_what_is_taken_keeps_the_rules(password: str, name: str) -> None:
    """Whatever is taken is long enough, varied, and without the name; its form is stable."""
    try:
        taken = check_password(password, name)
    except WeakPasswordError:
        return
    assert MIN_LENGTH <= len(taken) <= MAX_LENGTH
    assert len(set(taken.casefold())) >= 5
    assert name not in taken.casefold()
    assert check_password(taken, name) == taken


def test_accents_may_be_typed_either_way() -> None:
    """A letter and its accent are the same as the accented letter."""
    assert check_password("ein Lied fu\u0308r Zoe\u0308", "x") == check_password("ein Lied für Zoë", "x")
