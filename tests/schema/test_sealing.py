"""What is sealed for one agent opens for no other, and not under another name."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from schema.sealing import SealError, _montgomery, seal, unseal

seeds = st.binary(min_size=32, max_size=32)


@given(seed=seeds, other=seeds, plain=st.binary(max_size=200), name=st.binary(max_size=20), at=st.integers(0, 10**6))
def test_it_opens_for_its_own_key_and_name_alone(seed: bytes, other: bytes, plain: bytes, name: bytes, at: int) -> None:
    """The right key and name give it back; another key, another name or one changed bit give nothing."""
    key = Ed25519PrivateKey.from_private_bytes(seed)
    sealed = seal(key.public_key().public_bytes_raw(), plain, name)
    assert unseal(key, sealed, name) == plain
    changed = bytearray(sealed)
    changed[at % len(sealed)] ^= 1 << (at % 7)  # of an X25519 key the highest bit means nothing
    for wrong in (lambda: unseal(key, sealed, name + b"!"), lambda: unseal(key, bytes(changed), name)):
        with pytest.raises(SealError):
            wrong()
    if other != seed:
        with pytest.raises(SealError):
            unseal(Ed25519PrivateKey.from_private_bytes(other), sealed, name)


def test_the_keys_are_those_of_libsodium() -> None:
    """The test vector of libsodium's ed25519_convert: whoever writes another agent meets the same keys."""
    public = bytes.fromhex("b5076a8474a832daee4dd5b4040983b6623b5f344aca57d4d6ee4baf3f259e6e")
    assert _montgomery(public).hex() == "f1814f0e8ff1043d8a44d25babff3cedcae6c22c3edaa48f857ae70de2baae50"


@pytest.mark.parametrize("key", [b"", b"\x01" + b"\x00" * 31, b"\x00" * 32, b"\x00" * 31])
def test_a_key_that_keeps_nothing_is_refused(key: bytes) -> None:
    """Nothing is sealed for what is no key, or for one that everybody has."""
    with pytest.raises(SealError):
        seal(key, b"secret", b"")


@pytest.mark.parametrize("sealed", [b"", b"\x00" * 31, b"\x00" * 48, b"\xff" * 64])
def test_what_was_never_sealed_does_not_open(sealed: bytes) -> None:
    """Rubbish is an error of its own, and no crash."""
    with pytest.raises(SealError):
        unseal(Ed25519PrivateKey.generate(), sealed, b"")
