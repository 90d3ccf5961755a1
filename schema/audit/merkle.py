"""Merkle trees of RFC 6962: the root over some leaves, and the path that proves that one of them is among them.

A node is SHA-256(0x01 | left | right). The tree over n leaves splits at the largest power of two below n; pairing
neighbours level by level, with an odd last one carried up as it is, gives the same tree.
"""

from collections.abc import Sequence
from hashlib import sha256


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def _above(level: Sequence[bytes]) -> list[bytes]:
    digest = sha256
    paired = [digest(b"\x01" + level[at] + level[at + 1]).digest() for at in range(0, len(level) - 1, 2)]
    if len(level) % 2:
        paired.append(level[-1])
    return paired


def root(leaves: Sequence[bytes]) -> bytes:
    """The root over leaves; of none, the hash of nothing."""
    if not leaves:
        return sha256(b"").digest()
    level = leaves
    while len(level) > 1:
        level = _above(level)
    return level[0]


def path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The siblings from a leaf up to the root: the audit path of RFC 6962, section 2.1.1.

    Raises:
        IndexError: there is no such leaf.
    """
    if not 0 <= index < len(leaves):
        raise IndexError(index)
    found = []
    level = leaves
    while len(level) > 1:
        sibling = index ^ 1
        if sibling < len(level):
            found.append(level[sibling])
        index //= 2
        level = _above(level)
    return found


def levels(leaves: Sequence[bytes]) -> list[Sequence[bytes]]:
    """The whole tree, from its leaves up to its root: for many paths of it, see `path_within`."""
    found: list[Sequence[bytes]] = [leaves]
    while len(found[-1]) > 1:
        found.append(_above(found[-1]))
    return found


def path_within(tree: Sequence[Sequence[bytes]], index: int) -> list[bytes]:
    """As `path`, out of a tree's `levels`."""
    found = []
    for level in tree[:-1]:
        sibling = index ^ 1
        if sibling < len(level):
            found.append(level[sibling])
        index //= 2
    return found


def root_from(leaf: bytes, index: int, size: int, siblings: Sequence[bytes]) -> bytes:
    """The root that a path leads to.

    Args:
        leaf: where it begins.
        index: of the leaf, from 0.
        size: how many leaves the tree has.
        siblings: as `path` gives them.

    Raises:
        ValueError: no tree of that size has such a path to that leaf.
    """
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} has no leaf {index}")
    rest = iter(siblings)
    node, last = leaf, size - 1
    try:
        while last:
            if index % 2:
                node = _node(next(rest), node)
            elif index < last:
                node = _node(node, next(rest))
            index, last = index // 2, last // 2
    except StopIteration:
        raise ValueError("the path is too short") from None
    if next(rest, None) is not None:
        raise ValueError("the path is too long")
    return node
