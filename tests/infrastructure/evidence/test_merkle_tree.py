"""The tree of RFC 6962, against its definition and against a program that is not ours."""

from __future__ import annotations

import hashlib

import pytest
from metamorphic_log import verify_inclusion

from infrastructure.evidence.merkle_tree import GrowingTree, leaf_hash, prove_inclusion


def leaves(count: int) -> list[bytes]:
    return [leaf_hash(str(number).encode()) for number in range(count)]


def defined_root(hashes: list[bytes]) -> bytes:
    """MTH of RFC 6962 section 2.1, word for word."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    k = 1
    while k * 2 < len(hashes):
        k *= 2
    return hashlib.sha256(b"\1" + defined_root(hashes[:k]) + defined_root(hashes[k:])).digest()


def test_the_root_is_that_of_the_definition_at_every_size() -> None:
    tree, hashes = GrowingTree(), leaves(130)
    for size in range(131):
        assert tree.root() == defined_root(hashes[:size])
        assert tree.size == size
        if size < 130:
            tree.append(hashes[size])


def test_every_leaf_of_every_size_has_a_proof_that_another_program_accepts() -> None:
    for size in range(1, 40):
        hashes = leaves(size)
        for index in range(size):
            proof = prove_inclusion(hashes, index, size)
            assert proof.root == defined_root(hashes)
            verify_inclusion(index, size, hashes[index], list(proof.path), proof.root)


def test_the_leaves_behind_the_size_do_not_matter() -> None:
    assert prove_inclusion(leaves(9), 3, 5) == prove_inclusion(leaves(5), 3, 5)


@pytest.mark.parametrize(("index", "size"), [(5, 5), (-1, 5), (0, 0), (2, 6)])
def test_a_leaf_that_is_not_there_has_no_proof(index: int, size: int) -> None:
    with pytest.raises(IndexError):
        prove_inclusion(leaves(5), index, size)
