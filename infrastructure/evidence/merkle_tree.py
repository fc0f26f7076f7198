"""The Merkle tree of RFC 6962 section 2.1, computed while its leaves pass by in order.

Its memory grows with the logarithm of the number of leaves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

_LEAF, _NODE = b"\0", b"\1"
"""The octets before the content of a leaf and of a node: no node can be given as a leaf."""


def leaf_hash(octets: bytes) -> bytes:
    """The hash of a leaf with this content."""
    return hashlib.sha256(_LEAF + octets).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of a node with these children."""
    return hashlib.sha256(_NODE + left + right).digest()


class GrowingTree:
    """A tree to which leaves are appended; it keeps the roots of its largest full subtrees, from the left."""

    def __init__(self) -> None:
        self.size = 0
        self._roots: list[bytes] = []

    def append(self, leaf: bytes) -> None:
        """Append a leaf by its hash."""
        self.size += 1
        carried = self.size
        while carried % 2 == 0:
            leaf = node_hash(self._roots.pop(), leaf)
            carried //= 2
        self._roots.append(leaf)

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Append leaves by their hashes."""
        for leaf in leaves:
            self.append(leaf)

    def root(self) -> bytes:
        """The root of the tree as it is now."""
        if not self._roots:
            return hashlib.sha256(b"").digest()
        root = self._roots[-1]
        for left in reversed(self._roots[:-1]):
            root = node_hash(left, root)
        return root


@dataclass(frozen=True)
class Inclusion:
    """The proof that a tree has a leaf: the siblings from the leaf up, the root, and the number of leaves."""

    index: int
    size: int
    path: tuple[bytes, ...]
    root: bytes


def prove_inclusion(leaves: Iterable[bytes], index: int, size: int) -> Inclusion:
    """The proof for leaf `index`, from 0, of the tree over the first `size` of these hashes of leaves.

    Raises:
        IndexError: there are fewer leaves, or no such leaf.
    """
    siblings = _siblings(index, size)
    hashes, roots = iter(leaves), dict[int, bytes]()
    for begin, end in sorted([*siblings, (index, index + 1)]):
        subtree = GrowingTree()
        subtree.extend(islice(hashes, end - begin))
        if subtree.size < end - begin:
            raise IndexError(f"the tree has no {size} leaves")
        roots[begin] = subtree.root()
    root = roots[index]
    for begin, _ in siblings:
        root = node_hash(roots[begin], root) if begin < index else node_hash(root, roots[begin])
    return Inclusion(index, size, tuple(roots[begin] for begin, _ in siblings), root)


def _siblings(index: int, size: int) -> Sequence[tuple[int, int]]:
    """The ranges of leaves under the siblings on the way from leaf `index` to the root (RFC 6962 section 2.1.1)."""
    if not 0 <= index < size:
        raise IndexError(f"a tree of {size} leaves has no leaf {index}")
    begin, end, siblings = 0, size, list[tuple[int, int]]()
    while end - begin > 1:
        middle = begin + (1 << (end - begin - 1).bit_length() - 1)
        if index < middle:
            siblings.append((middle, end))
            end = middle
        else:
            siblings.append((begin, middle))
            begin = middle
    return siblings[::-1]
