"""Envelope encryption, and the sources of the key-encryption key."""
