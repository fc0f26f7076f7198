"""Evidence for a stranger: a tree over the log, its signed checkpoints, and proofs that an event is in it."""
