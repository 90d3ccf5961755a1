"""Whom an agent believes to be its server: along the chain of announcements, and nobody beside it."""

from pathlib import Path
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.identity import Identity
from agent.server_keys import MOST_KEYS, ServerKeysRefusedError, following
from gateways.agents.keys import Chain, Key, KeyRow
from schema import trust, wire


def key(number: int) -> Key:
    return Key(bytes([number]) * 32)


def identity(of: Key) -> Identity:
    return Identity(
        agent_id=UUID(int=1), server_url="http://127.0.0.1:9", server_public_key=of.public_hex, nats_urls=[]
    )


def link(previous: Key, following_: Key, *, by: Key | None = None) -> trust.KeyLink:
    signed = trust.key_link_signed(previous.public, following_.public)
    return trust.KeyLink(
        previous=previous.public, public_key=following_.public, signature=(by or previous).sign(signed)
    )


def only(oldest: Key, *links: trust.KeyLink, by: Key | None = None) -> trust.ServerKeys:
    signature = (by or oldest).sign(trust.keys_retired_signed(oldest.public))
    return trust.ServerKeys(links=list(links), oldest=oldest.public, retired=signature)


def accepted(one: Identity) -> list[str]:
    return [each.public_key for each in one.accepted]


class Server:
    """A chain of keys, as the table has it."""

    def __init__(self) -> None:
        self.keys = [key(1)]
        self.retired = 0
        self.ended: bytes | None = None

    def rotate(self) -> None:
        if len(self.keys) - self.retired == 1:
            self.keys.append(key(len(self.keys) + 1))

    def retire(self) -> None:
        if len(self.keys) - self.retired > 1:
            self.retired += 1
            left = self.keys[self.retired]
            self.ended = left.sign(trust.keys_retired_signed(left.public))

    @property
    def chain(self) -> Chain:
        rows = []
        for index, one in enumerate(self.keys):
            announced = link(self.keys[index - 1], one).signature if index else None
            rows.append(
                KeyRow(
                    number=index + 1,
                    public=one.public,
                    seed=None if index < self.retired else b"seed",
                    announced=announced,
                    ended=self.ended if index == self.retired else None,
                )
            )
        return Chain(tuple(rows))


@given(st.lists(st.sampled_from(["rotate", "retire", "hello", "enroll"]), max_size=30))
def test_whoever_says_hello_ends_with_the_keys_that_count(steps: list[str]) -> None:
    """Whatever the server does, and however much of it an agent misses: one hello, and it has what counts, no more."""
    server, agent = Server(), identity(key(1))
    for step in [*steps, "hello"]:
        match step:
            case "rotate":
                server.rotate()
            case "retire":
                server.retire()
            case "enroll":
                agent = identity(server.keys[server.retired])
            case _:
                told = server.chain.told_to([bytes.fromhex(one) for one in accepted(agent)])
                agent = agent if told is None else following(agent, told)
                assert [bytes.fromhex(one) for one in accepted(agent)] == server.chain.public
                assert server.chain.told_to(server.chain.public) is None, "what is known need not be said again"
        assert agent.verifies(server.keys[0].sign(b"x"), b"", b"x") == (key(1).public_hex in accepted(agent))


@pytest.mark.parametrize(
    "forged",
    [
        trust.ServerKeys(links=[link(key(1), key(9), by=key(9))]),
        trust.ServerKeys(links=[link(key(1), key(9), by=key(8))]),
        trust.ServerKeys(links=[link(key(1), key(2)), link(key(2), key(9), by=key(1))]),
        trust.ServerKeys(links=[trust.KeyLink(previous=key(1).public, public_key=b"short", signature=b"")]),
        only(key(2), link(key(1), key(2)), by=key(1)),
        only(key(1), by=key(2)),
        trust.ServerKeys(links=[link(key(1), key(number)) for number in range(2, MOST_KEYS + 3)]),
    ],
)
def test_what_no_key_that_counts_has_signed_changes_nothing(forged: trust.ServerKeys) -> None:
    """A link or an end that the right key has not signed is refused, and so is all that came with it."""
    with pytest.raises(ServerKeysRefusedError):
        following(identity(key(1)), forged)


def test_a_key_that_is_over_announces_and_ends_nothing() -> None:
    """Leaked, it finds no ear: its links are passed over, and so is an end in its name."""
    agent = following(identity(key(1)), only(key(2), link(key(1), key(2))))
    assert accepted(agent) == [key(2).public_hex]
    for forged in (trust.ServerKeys(links=[link(key(1), key(9))]), only(key(1)), only(key(9), link(key(1), key(9)))):
        assert following(agent, forged) is agent
    assert not agent.verifies(key(1).sign(b"x"), b"", b"x")
    assert not agent.knows(key(1).name)


def test_another_branch_of_an_old_key_ends_with_it() -> None:
    """While both count, a thief of the old key could have announced one of their own: retiring the old one ends it."""
    agent = following(identity(key(1)), trust.ServerKeys(links=[link(key(1), key(9)), link(key(9), key(8))]))
    agent = following(agent, only(key(2), link(key(1), key(2))))
    assert accepted(agent) == [key(2).public_hex]


def test_a_signature_for_something_else_announces_nothing() -> None:
    """An order's signature, or an end's, is no link's: each has a context of its own."""
    said = key(1).public + key(9).public
    for context in (wire.SIGNING_CONTEXT, trust.KEYS_RETIRED_CONTEXT, trust.TRUST_CONTEXT, b""):
        forged = trust.KeyLink(previous=key(1).public, public_key=key(9).public, signature=key(1).sign(context + said))
        with pytest.raises(ServerKeysRefusedError):
            following(identity(key(1)), trust.ServerKeys(links=[forged]))


def test_an_identity_from_before_there_were_several_keys_is_read(tmp_path: Path) -> None:
    """A file that an earlier program wrote has one key, and is none the worse for it; the new ones survive a save."""
    before = msgspec.to_builtins(identity(key(1)))
    del before["server_keys"]
    (tmp_path / "identity.json").write_bytes(msgspec.json.encode(before))
    agent = following(Identity.load(tmp_path), trust.ServerKeys(links=[link(key(1), key(2))]))
    agent.save(tmp_path)
    assert accepted(Identity.load(tmp_path)) == [key(1).public_hex, key(2).public_hex]
