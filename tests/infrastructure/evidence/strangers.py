"""Two verifiers that are not ours: `proofbundle` reads a whole proof, `metamorphic_log` checkpoints and inclusion."""

from __future__ import annotations

import base64
import hashlib

import metamorphic_log
from proofbundle.errors import ProofBundleError
from proofbundle.tlogproof import verify_tlog_proof


def proofbundle_accepts(proof: bytes, leaf: bytes, key: str) -> bool:
    try:
        return bool(verify_tlog_proof(proof.decode(), leaf, key)["ok"])
    except (UnicodeDecodeError, ProofBundleError):
        return False


def metamorphic_accepts(proof: bytes, leaf: bytes, key: str) -> bool:
    """It takes the parts of a proof, so the test takes the lines apart as the specification says."""
    try:
        head, checkpoint = proof.decode().split("\n\n", 1)
        magic, index, *path = head.split("\n")
        if magic != "c2sp.org/tlog-proof@v1" or not index.startswith("index "):
            return False
        hashes = [base64.b64decode(line, validate=True) for line in path]
        if [base64.b64encode(one).decode() for one in hashes] != path:
            return False
        leaf_hash = hashlib.sha256(b"\0" + leaf).digest()
        number = int(index.removeprefix("index "))
        metamorphic_log.checkpoint_verify_inclusion(checkpoint, [key], number, leaf_hash, hashes)
    except (ValueError, metamorphic_log.VerifyError, metamorphic_log.InternalError):
        return False
    return True


def checkpoint_accepted(checkpoint: bytes, key: str) -> tuple[str, int, bytes] | None:
    """The origin, size and root of a checkpoint that the key has signed; None if it has not."""
    try:
        head = metamorphic_log.checkpoint_verify(checkpoint.decode(), [key])
    except (UnicodeDecodeError, metamorphic_log.VerifyError):
        return None
    return head.origin, head.size, head.root


VERIFIERS = (proofbundle_accepts, metamorphic_accepts)
