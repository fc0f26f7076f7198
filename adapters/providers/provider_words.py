"""The words of an error reply for people: what the provider itself says, made safe to display, and its ids for support.

A provider's text may hold anything: control characters, text that runs backwards, a secret of the request that it
echoes, whole or in part. Long runs of characters are left out as likely secrets, and so is whatever has a part of a
known secret.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote, quote_plus

from domain.outcomes import ProviderReply
from domain.secret import Secret

_LONGEST_WORDS = 500
# More than any description has; the rest of a text of megabytes is not looked at.
_LOOKED_AT = 4000
# The lengths of tokens and codes; ids (36 characters) and the names of permissions are shorter or have other signs.
_LIKE_A_SECRET = re.compile(r"[A-Za-z0-9_.+=~-]{40,}")
# A run of the characters of secrets, also of encoded ones.
_RUN = re.compile(r"[^\s\"'<>(){},;]+")
# The shortest part of a secret that is looked for; a short secret is looked for as a whole.
_PART = 8
_ID = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)
# Control and format characters (which include those that reverse the direction), surrogates, and line separators.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def read_reply(document: Mapping[str, Any], code: str) -> ProviderReply:
    """The description and the ids of an error reply whose code is known."""
    return ProviderReply(
        code, safe_words(document.get("error_description")), _id(document, "trace_id"), _id(document, "correlation_id")
    )


def safe_words(text: object) -> str | None:
    """The text in one line of printable characters, without what looks like a secret; None if there is no text."""
    if not isinstance(text, str):
        return None
    printable = "".join(" " if unicodedata.category(sign) in _UNSAFE else sign for sign in text[:_LOOKED_AT])
    words = _LIKE_A_SECRET.sub("...", " ".join(printable.split()))
    return (words if len(words) <= _LONGEST_WORDS else words[: _LONGEST_WORDS - 3] + "...") or None


def without_secrets(reply: ProviderReply, secrets: Iterable[Secret]) -> ProviderReply:
    """The reply without these secrets in its words and ids, nor any run of characters that has a part of one."""
    known = {form for secret in secrets for form in _forms(secret.reveal()) if form}
    words, trace_id, correlation_id = (
        _scrubbed(text, known) for text in (reply.words, reply.trace_id, reply.correlation_id)
    )
    return replace(reply, words=words, trace_id=trace_id, correlation_id=correlation_id)


def has_secret(text: str, secrets: Iterable[Secret]) -> bool:
    """Whether one of these secrets is in the text; a short one could be part of any text."""
    return any(len(secret.reveal()) >= _PART and secret.reveal() in text for secret in secrets)


def _forms(secret: str) -> tuple[str, ...]:
    return secret, quote(secret, safe=""), quote_plus(secret)


def _scrubbed(text: str | None, secrets: Collection[str]) -> str | None:
    if text is None:
        return None
    for secret in sorted(secrets, key=len, reverse=True):
        text = re.sub(re.escape(secret), "...", text, flags=re.IGNORECASE)
    known = "\n".join(secrets).casefold()
    return _RUN.sub(lambda run: "..." if _has_part(run[0].casefold(), known) else run[0], text)


def _has_part(run: str, secrets: str) -> bool:
    return any(run[at : at + _PART] in secrets for at in range(len(run) - _PART + 1))


def _id(document: Mapping[str, Any], name: str) -> str | None:
    value = document.get(name)
    return value if isinstance(value, str) and _ID.fullmatch(value) else None
