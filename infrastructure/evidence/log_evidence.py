"""Checkpoints of the log, proofs that an event is in it, and the comparison of the log with an earlier checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from domain.errors import InvalidValue, NotFound, Refused
from domain.log_hold import LogHead
from infrastructure.evidence.checkpoint import Checkpoint, proof_text, read_checkpoint
from infrastructure.evidence.event_leaf import event_octets
from infrastructure.evidence.merkle_tree import GrowingTree, leaf_hash, prove_inclusion
from infrastructure.evidence.signed_note import NotANote, NoteKey, NoteSigner
from infrastructure.store.event_log import EventLog
from infrastructure.store.log_head import read_link, read_log_head
from infrastructure.store.query import Query

Progress = Callable[[int], None]
PROGRESS_EVERY = 10_000


@dataclass
class GrowingLog:
    """The tree over the log up to a position, and the end that the log had then; a new one has no event yet."""

    tree: GrowingTree = field(default_factory=GrowingTree)
    position: int = 0
    head: LogHead | None = None


@dataclass(frozen=True)
class SignedCheckpoint:
    """A checkpoint, and the signed note that a verifier reads."""

    checkpoint: Checkpoint
    text: str


@dataclass(frozen=True)
class EventProof:
    """The octets of an event's leaf, and the proof that they are in the log."""

    octets: bytes
    text: str


@dataclass(frozen=True)
class CheckpointComparison:
    """An earlier checkpoint, the number of events in the log now, and whether the log extends the checkpoint."""

    checkpoint: Checkpoint
    events: int
    extends: bool


class LogEvidence:
    """The evidence about the log of the store `store_id`."""

    def __init__(self, log: EventLog, store_id: str) -> None:
        self._log = log
        self._origin = f"mailtoken/{store_id}"

    @property
    def key(self) -> NoteKey:
        """The public key with which checkpoints are signed now."""
        return self._signer().public

    def extend(self, grown: GrowingLog, progress: Progress | None = None) -> SignedCheckpoint:
        """Append the events that the tree does not have yet, and make its checkpoint.

        A tree whose end is not in the log, because another log was put in its place, begins anew.
        """
        with self._log.store.reading() as query:
            if grown.head and read_link(query, grown.head.number) != grown.head.link:
                grown.tree, grown.position = GrowingTree(), 0
            tree, grown.head = grown.tree, read_log_head(query)
            for position, stored in self._log.read_stored(query, grown.position):
                tree.append(leaf_hash(event_octets(tree.size + 1, stored)))
                grown.position = position
                if progress and tree.size % PROGRESS_EVERY == 0:
                    progress(tree.size)
        checkpoint = Checkpoint(self._origin, tree.size, tree.root())
        return SignedCheckpoint(checkpoint, checkpoint.signed(self._signer()))

    def prove(self, number: int, progress: Progress | None = None) -> EventProof:
        """Prove that event `number`, counted from 1, is in the log as it is.

        Raises:
            NotFound: the log has no such event.
        """
        octets = b""
        with self._log.store.reading() as query:
            size = query.rows("SELECT count(*) AS events FROM stored_events")[0]["events"]
            if not 1 <= number <= size:
                raise NotFound("event_not_found", number=number, events=size)

            def hashes() -> Iterator[bytes]:
                nonlocal octets
                for leaf, content in enumerate(self._leaves(query, progress), 1):
                    if leaf == number:
                        octets = content
                    yield leaf_hash(content)

            inclusion = prove_inclusion(hashes(), number - 1, size)
        signed = Checkpoint(self._origin, size, inclusion.root).signed(self._signer())
        return EventProof(octets, proof_text(inclusion, signed))

    def compare(self, octets: bytes, name: str, progress: Progress | None = None) -> CheckpointComparison:
        """Compare the log with a checkpoint of it; `name` is that of its file.

        Raises:
            InvalidValue: the octets are no checkpoint, or none that this log has signed.
            Refused: it is another log's, or it has more events than this log.
        """
        checkpoint = self._read(octets, name)
        tree, root = GrowingTree(), b""
        with self._log.store.reading() as query:
            if checkpoint.size == 0:
                root = tree.root()
            for content in self._leaves(query, progress):
                tree.append(leaf_hash(content))
                if tree.size == checkpoint.size:
                    root = tree.root()
        if tree.size < checkpoint.size:
            raise Refused("checkpoint_newer", path=name, size=checkpoint.size, events=tree.size)
        return CheckpointComparison(checkpoint, tree.size, root == checkpoint.root)

    def _read(self, octets: bytes, name: str) -> Checkpoint:
        try:
            checkpoint, note = read_checkpoint(octets)
        except NotANote:
            raise InvalidValue(name, "not_a_checkpoint") from None
        if checkpoint.origin != self._origin:
            raise Refused("checkpoint_of_another_log", path=name, origin=checkpoint.origin)
        signers = map(self._signer, self._log.store.integrity.signing.numbers)
        if not any(note.is_signed_by(signer.public) for signer in signers):
            raise InvalidValue(name, "checkpoint_not_signed")
        return checkpoint

    def _signer(self, number: int | None = None) -> NoteSigner:
        """The signer with the key of this number, or with the one in use."""
        return NoteSigner(self._origin, self._log.store.integrity.signing.private_key(number))

    def _leaves(self, query: Query, progress: Progress | None) -> Iterator[bytes]:
        for number, (_, stored) in enumerate(self._log.read_stored(query), 1):
            yield event_octets(number, stored)
            if progress and number % PROGRESS_EVERY == 0:
                progress(number)
