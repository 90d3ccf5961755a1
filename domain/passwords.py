"""What a password must be: long, not the name of whoever has it, and none of those that everybody tries first.

After NIST SP 800-63B-4, section 3.1.1.2: length and a list, and no rules about kinds of characters.
"""

import unicodedata
from itertools import pairwise

from domain.errors import WeakPasswordError

MIN_LENGTH = 12
MAX_LENGTH = 256
LEAST_CHARACTERS = 5
"""So many different ones."""
_SHORTEST_NAME = 4
"""A shorter name is in too many good passwords."""
_PLAIN = str.maketrans({"@": "a", "4": "a", "3": "e", "1": "i", "!": "i", "0": "o", "$": "s", "5": "s", "7": "t"})
WORST = frozenset(
    [
        "abc",
        "abcd",
        "access",
        "admin",
        "administrator",
        "asdf",
        "asdfgh",
        "asdfghjkl",
        "baseball",
        "batman",
        "changeme",
        "computer",
        "correcthorsebatterystaple",
        "default",
        "dragon",
        "fleet",
        "fleetlog",
        "football",
        "freedom",
        "geheim",
        "guest",
        "hallo",
        "hello",
        "iloveyou",
        "kennwort",
        "letmein",
        "login",
        "master",
        "monkey",
        "mypassword",
        "pass",
        "passphrase",
        "passw",
        "password",
        "passwort",
        "princess",
        "qazwsx",
        "qwert",
        "qwerty",
        "qwertyuiop",
        "root",
        "secret",
        "server",
        "sesame",
        "shadow",
        "starwars",
        "summer",
        "sunshine",
        "superman",
        "temp",
        "temporary",
        "test",
        "testing",
        "trustno",
        "ubuntu",
        "user",
        "username",
        "welcome",
        "whatever",
        "willkommen",
        "winter",
        "zxcvbn",
        "zxcvbnm",
    ]
)
"""Words that make a bad password alone, repeated, or with figures and marks around them."""


def clean_password(text: str) -> str:
    """The same password, however its accents were typed (RFC 8265 asks for NFC)."""
    return unicodedata.normalize("NFC", text)


def check_password(text: str, name: str, email: str = "") -> str:
    """Refuse a password that is soon guessed. What is refused is never named in the error.

    Args:
        text: the password.
        name: of the user.
        email: of the user, or nothing.

    Returns:
        It, in the form that is hashed.

    Raises:
        WeakPasswordError: says what is wrong with it.
    """
    cleaned = clean_password(text)
    if not MIN_LENGTH <= len(cleaned) <= MAX_LENGTH:
        raise WeakPasswordError(f"password: {MIN_LENGTH} to {MAX_LENGTH} characters.")
    if any(unicodedata.category(one) in ("Cc", "Cs", "Cn") for one in cleaned):
        raise WeakPasswordError("password: it holds characters that cannot be typed.")
    folded = cleaned.casefold()
    if len(set(folded)) < LEAST_CHARACTERS or _is_a_run(folded):
        raise WeakPasswordError(f"password: at least {LEAST_CHARACTERS} different characters, and not all in a row.")
    for part in (name.casefold().strip(), email.casefold().partition("@")[0].strip()):
        if len(part) >= _SHORTEST_NAME and (part in folded or part in folded[::-1]):
            raise WeakPasswordError("password: it must not hold the user's name or address.")
    if any(_is_repeated(core) for core in _cores(folded)):
        raise WeakPasswordError("password: it is one of those that are tried first; several unusual words are better.")
    return cleaned


def _is_a_run(folded: str) -> bool:
    """Each character follows the one before: 123456789012, abcdefghijkl, and the same backwards."""
    steps = {ord(after) - ord(before) for before, after in pairwise(folded) if (before, after) not in _TURNS}
    return steps in ({1}, {-1})


_TURNS = {("9", "0"), ("0", "9"), ("0", "1"), ("z", "a")}


def _cores(folded: str) -> set[str]:
    """What is left without figures and marks around it, as it is and with 4 for a and the like read as letters."""
    bare = "".join(one for one in folded if one.isalpha())
    ends = folded.strip("".join(one for one in set(folded) if not one.isalpha()))
    return {bare, "".join(one for one in ends.translate(_PLAIN) if one.isalpha())}


def _is_repeated(core: str) -> bool:
    """One of the worst words, once or several times over, or nothing."""
    if not core:
        return False
    return any(len(core) % len(word) == 0 and word * (len(core) // len(word)) == core for word in WORST)
