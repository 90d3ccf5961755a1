"""What is hashed, the trees over it, and proofs that hold by themselves."""

import hashlib
import json
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema.audit import merkle
from schema.audit.canonical import canonical, fold, leaf_hash, leaf_of, leaves_of, pack, unpack
from schema.audit.checkpoints import BadCheckpointError, Checkpoint, Statement, encode_statement, public_of, sign
from schema.audit.proofs import BadProofError, Proof, check_proof, decode_proof, encode_proof, make_proof

SEED = b"\x05" * 32

ids = st.uuids()
rows = st.tuples(
    st.integers(1, 2**53 - 1),
    ids,
    st.integers(1, 2**53 - 1),
    st.text(max_size=20),
    st.binary(max_size=50),
    st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.timezones(), allow_imaginary=False),  # noqa: DTZ001 - its bounds
    st.text(max_size=20),
    ids,
    st.none() | ids,
    st.none() | ids,
    st.none() | ids,
)


@given(rows)
def test_an_event_is_hashed_in_the_form_of_rfc_8785(row: tuple[Any, ...]) -> None:
    """Keys in order, no space, nothing escaped that need not be; the same in whichever zone its time was read."""
    data = canonical(row)
    fields = json.loads(data)
    assert data == json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert fields["body_sha256"] == hashlib.sha256(row[4]).hexdigest()
    assert (fields["position"], fields["stream_id"], fields["actor"]) == (row[0], str(row[1]), row[6])
    assert datetime.fromisoformat(fields["recorded_at"]) == row[5].astimezone(UTC)
    assert fields["recorded_at"].endswith("Z")
    assert leaves_of([row]) == [leaf_of(row)] == [leaf_hash(data)]
    assert canonical((*row[:5], row[5].astimezone(UTC), *row[6:])) == data


def defined(leaves: list[bytes]) -> bytes:
    """The root as RFC 6962 defines it, section 2.1."""
    if len(leaves) == 1:
        return leaves[0]
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + defined(leaves[:half]) + defined(leaves[half:])).digest()


@given(st.integers(1, 70), st.data())
def test_every_leaf_of_every_tree_has_its_path(size: int, data: st.DataObject) -> None:
    """The root is the one that RFC 6962 defines; each path leads to it, and from another place or leaf it does not."""
    leaves = [hashlib.sha256(bytes([number])).digest() for number in range(size)]
    root = merkle.root(leaves)
    assert root == defined(leaves)
    index = data.draw(st.integers(0, size - 1))
    path = merkle.path(leaves, index)
    assert merkle.root_from(leaves[index], index, size, path) == root
    assert merkle.root_from(bytes(32), index, size, path) != root
    other = data.draw(st.integers(0, size - 1))
    if other != index:
        try:
            found = merkle.root_from(leaves[index], other, size, path)
        except ValueError:
            found = b""
        assert found != root
    with pytest.raises(ValueError, match="too long"):
        merkle.root_from(leaves[index], index, size, [*path, root])
    if path:
        with pytest.raises(ValueError, match="too short"):
            merkle.root_from(leaves[index], index, size, path[:-1])


def test_roots_are_those_of_certificate_transparency() -> None:
    """The vectors that the implementations of RFC 6962 share."""
    inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    leaves = [leaf_hash(bytes.fromhex(one)) for one in inputs]
    assert merkle.root([]).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert merkle.root(leaves[:1]).hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert merkle.root(leaves[:2]).hex() == "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
    assert merkle.root(leaves[:3]).hex() == "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"
    assert merkle.root(leaves).hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


@given(st.lists(st.tuples(st.integers(0, 2**63), st.binary(min_size=32, max_size=32)), max_size=5))
def test_a_page_gives_back_its_entries(entries: list[tuple[int, bytes]]) -> None:
    """Positions and leaves, in their order; the chain over them is the same in one go and one by one."""
    packed = pack([position for position, _ in entries], [leaf for _, leaf in entries])
    assert unpack(packed) == entries
    head = bytes(32)
    for _, leaf in entries:
        head = fold(head, [leaf])
    assert head == fold(bytes(32), [leaf for _, leaf in entries])


def sample(count: int = 11, index: int = 4, body: bytes = b'{"reason":"nightly"}') -> Proof:
    at = datetime(2026, 11, 26, 12, 0, 0, 5, UTC)
    found = [
        (
            number + 7,
            UUID(int=1),
            number + 1,
            "CommandQueued/2",
            body,
            at,
            "key:1",
            UUID(int=2),
            None,
            None,
            UUID(int=3),
        )
        for number in range(count)
    ]
    leaves = leaves_of(found)
    statement = Statement(
        chain_head=fold(bytes(32), leaves).hex(),
        events=count,
        first_position=7,
        key=public_of(SEED),
        last_position=6 + count,
        made_at=at,
        number=1,
        previous="0" * 64,
        root=merkle.root(leaves).hex(),
        total_events=count,
    )
    text = encode_statement(statement)
    return make_proof(found[index], index, leaves, Checkpoint(text, [sign(SEED, text)]))


def test_a_proof_holds_by_itself_and_is_small() -> None:
    """It is read back from its bytes, says what it is under, and takes less than 4 kB for a tree of 16,384."""
    proof = sample()
    assert check_proof(decode_proof(encode_proof(proof)), [public_of(SEED)]).number == 1
    large = sample(16_384, 12_345)
    assert check_proof(large).events == 16_384
    assert len(encode_proof(large)) < 4_000
    binary = sample(body=b"\xff\x00")
    assert binary.body is None
    assert check_proof(decode_proof(encode_proof(binary)))


def test_a_proof_that_was_changed_anywhere_does_not_hold() -> None:
    """Event, body, place, path, statement and signature: none can be another."""
    proof = sample()
    replace = msgspec.structs.replace
    for field in proof.event.__struct_fields__:
        old = getattr(proof.event, field)
        new = {int: 8, str: "0" * 64, UUID: UUID(int=9), type(None): UUID(int=9), datetime: datetime.now(UTC)}[
            type(old)
        ]
        with pytest.raises(BadProofError):
            check_proof(replace(proof, event=replace(proof.event, **{field: new})))
    statement = proof.checkpoint.read()
    forged = encode_statement(replace(statement, root="1" * 64))
    [signature] = proof.checkpoint.signatures
    for changed in (
        replace(proof, body='{"reason":"daily"}'),
        replace(proof, body=None, body_base64="AA=="),
        replace(proof, body=None, body_base64="?"),
        replace(proof, index=proof.index + 1),
        replace(proof, index=99),
        replace(proof, size=proof.size + 1),
        replace(proof, path=proof.path[1:]),
        replace(proof, path=[*proof.path[:-1], "zz"]),
        replace(proof, checkpoint=Checkpoint(forged, [sign(SEED, forged)])),
    ):
        with pytest.raises(BadProofError):
            check_proof(changed)
    for checkpoint in (
        Checkpoint(forged, [signature]),
        Checkpoint(proof.checkpoint.statement, []),
        Checkpoint(proof.checkpoint.statement, [sign(b"\x06" * 32, proof.checkpoint.statement)]),
        Checkpoint(proof.checkpoint.statement + " ", [sign(SEED, proof.checkpoint.statement + " ")]),
        Checkpoint("{}", [signature]),
    ):
        with pytest.raises(BadCheckpointError):
            check_proof(replace(proof, checkpoint=checkpoint))
    with pytest.raises(BadProofError, match="trust"):
        check_proof(proof, ["0" * 64])
    with pytest.raises(BadProofError):
        decode_proof(b"{}")


def test_the_verifier_needs_nothing_else_of_fleetlog() -> None:
    """It loads no other package of ours, no web, no command line; and for files no driver either."""
    code = (
        "import sys, schema.audit.__main__; "
        "print(*sorted({name.partition('.')[0] for name in sys.modules} & set(sys.argv[1:])))"
    )
    unwanted = [
        "domain",
        "command_bus",
        "projections",
        "gateways",
        "agent",
        "psycopg",
        "starlette",
        "pydantic",
        "typer",
    ]
    done = subprocess.run([sys.executable, "-c", code, *unwanted], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
