"""Checkpoints and proofs as texts, as `tlog-checkpoint.md` and `tlog-proof.md` of C2SP specify them."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass

from infrastructure.evidence.merkle_tree import Inclusion
from infrastructure.evidence.signed_note import NotANote, Note, NoteSigner, decode_base64, read_note

_HASH_BYTES = 32
_PROOF = "c2sp.org/tlog-proof@v1"
_SIZE = re.compile("0|[1-9][0-9]{0,18}")


@dataclass(frozen=True)
class Checkpoint:
    """The root of a log's tree at a size; `origin` names the log."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """The text of the note that is signed."""
        return f"{self.origin}\n{self.size}\n{_base64(self.root)}\n"

    def signed(self, signer: NoteSigner) -> str:
        """The checkpoint as a signed note."""
        return signer.sign(self.text)


def read_checkpoint(octets: bytes) -> tuple[Checkpoint, Note]:
    """Read a checkpoint and the note that it is the text of; no signature is verified.

    Raises:
        NotANote: the octets are no checkpoint.
    """
    note = read_note(octets)
    lines = note.text[:-1].split("\n")
    if len(lines) < 3 or not all(lines) or not _SIZE.fullmatch(lines[1]):
        raise NotANote("it is no checkpoint")
    root = decode_base64(lines[2])
    if len(root) != _HASH_BYTES:
        raise NotANote("its root is no hash")
    return Checkpoint(lines[0], int(lines[1]), root), note


def proof_text(inclusion: Inclusion, signed_checkpoint: str) -> str:
    """The proof for one leaf, with the signed checkpoint of the tree that the proof is about."""
    path = "".join(f"{_base64(sibling)}\n" for sibling in inclusion.path)
    return f"{_PROOF}\nindex {inclusion.index}\n{path}\n{signed_checkpoint}"


def _base64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()
