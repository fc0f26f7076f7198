"""Checkpoints and proofs, as programs that are not ours read them."""

from __future__ import annotations

import random

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from strangers import VERIFIERS, checkpoint_accepted

from infrastructure.evidence.checkpoint import Checkpoint, proof_text, read_checkpoint
from infrastructure.evidence.merkle_tree import GrowingTree, leaf_hash, prove_inclusion
from infrastructure.evidence.signed_note import NotANote, NoteSigner, read_note

ORIGIN = "mailtoken/4f3c1d3e-0000-4000-8000-000000000001"
SIGNER = NoteSigner(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
KEY = SIGNER.public.text


def leaf(number: int) -> bytes:
    return f'{{"index": {number}}}'.encode()


def signed(size: int) -> bytes:
    tree = GrowingTree()
    tree.extend(leaf_hash(leaf(number)) for number in range(size))
    return Checkpoint(ORIGIN, size, tree.root()).signed(SIGNER).encode()


def proof(index: int, size: int) -> bytes:
    inclusion = prove_inclusion((leaf_hash(leaf(number)) for number in range(size)), index, size)
    return proof_text(inclusion, Checkpoint(ORIGIN, size, inclusion.root).signed(SIGNER)).encode()


def says_something(octets: bytes, bit: int) -> bool:
    """Whether a bit of a note says anything: the last digit of its signature, in base64, has two that do not."""
    return bit // 8 != len(octets) - 3 or bit % 8 > 1


def with_bit_changed(octets: bytes, bit: int) -> bytes:
    changed = bytearray(octets)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def check_proofs(count: int) -> None:
    """Of `count` proofs each verifier accepts all, and none with one bit changed, in the proof or in the leaf."""
    chosen = random.Random(count)
    for _ in range(count):
        size = chosen.randint(1, 3 * count)
        index = chosen.randrange(size)
        octets = proof(index, size)
        bit = chosen.choice([bit for bit in range(8 * len(octets)) if says_something(octets, bit)])
        changed = with_bit_changed(octets, bit)
        other_leaf = with_bit_changed(leaf(index), chosen.randrange(8 * len(leaf(index))))
        for accepts in VERIFIERS:
            assert accepts(octets, leaf(index), KEY)
            assert not accepts(changed, leaf(index), KEY), changed
            assert not accepts(octets, other_leaf, KEY)


def test_strangers_accept_every_proof_and_none_with_one_bit_changed() -> None:
    check_proofs(40)


@pytest.mark.torture
def test_strangers_accept_a_thousand_proofs_and_none_of_them_with_one_bit_changed() -> None:
    check_proofs(1000)


def test_no_bit_of_a_proof_can_be_changed() -> None:
    octets = proof(2, 6)
    for bit in filter(lambda bit: says_something(octets, bit), range(8 * len(octets))):
        for accepts in VERIFIERS:
            assert not accepts(with_bit_changed(octets, bit), leaf(2), KEY), (accepts.__name__, bit)


def test_a_proof_of_another_event_is_refused() -> None:
    for accepts in VERIFIERS:
        assert not accepts(proof(3, 6), leaf(2), KEY)


def test_a_stranger_reads_a_checkpoint_and_what_we_read_is_the_same() -> None:
    octets = signed(7)
    checkpoint, note = read_checkpoint(octets)
    assert note.is_signed_by(SIGNER.public)
    assert checkpoint_accepted(octets, KEY) == (checkpoint.origin, checkpoint.size, checkpoint.root)


def test_a_checkpoint_of_an_empty_log_is_one() -> None:
    assert checkpoint_accepted(signed(0), KEY) is not None
    assert read_checkpoint(signed(0))[0].size == 0


def test_no_bit_of_a_checkpoint_can_be_changed() -> None:
    octets = signed(7)
    for bit in range(8 * len(octets)):
        changed = with_bit_changed(octets, bit)
        try:
            assert not read_checkpoint(changed)[1].is_signed_by(SIGNER.public), bit
        except NotANote:
            continue


def test_the_signature_of_a_witness_beside_ours_does_no_harm() -> None:
    witness = NoteSigner("witness.example", Ed25519PrivateKey.generate())
    checkpoint = Checkpoint(ORIGIN, 7, bytes(32))
    octets = checkpoint.signed(SIGNER) + witness.sign(checkpoint.text).rpartition("\n\n")[2]
    read, note = read_checkpoint(octets.encode())
    assert read == checkpoint
    assert note.is_signed_by(SIGNER.public)
    assert note.is_signed_by(witness.public)


def test_a_second_signature_of_our_key_that_is_wrong_spoils_the_note() -> None:
    octets = Checkpoint(ORIGIN, 7, bytes(32)).signed(SIGNER)
    wrong = Checkpoint(ORIGIN, 8, bytes(32)).signed(SIGNER).rpartition("\n\n")[2]
    assert not read_note((octets + wrong).encode()).is_signed_by(SIGNER.public)


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\n\n",
        b"\xff\xfe",
        b"no signature\n",
        b"origin\n1\n\n\xe2\x80\x94 name ////////\n",
        b"origin\n01\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n\xe2\x80\x94 name ////////\n",
        b"origin\n1\nAAAA\n\n\xe2\x80\x94 name ////////\n",
        b"origin\n1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n\xe2\x80\x94 name ////\n",
        b"origin\n1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n- name ////////\n",
        b"origin\r\n1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n\xe2\x80\x94 name ////////\n",
        b"\n1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n\xe2\x80\x94 name ////////\n",
        signed(7)[:-1],
        signed(7) + b"x" * 100_000,
    ],
)
def test_what_is_no_checkpoint_is_refused(octets: bytes) -> None:
    with pytest.raises(NotANote):
        read_checkpoint(octets)
