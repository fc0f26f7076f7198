"""Entity tags: to change a resource only if it is still as the client saw it (RFC 9110 sections 8.8.3 and 13.1.1)."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Depends, Header

from domain.errors import InvalidValue

_TAGS = re.compile(r'\s*(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"\s*(?:,\s*(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"\s*)*')
_STRONG = re.compile(r'(W/)?"([^"]*)"')


def quoted(tag: str) -> str:
    """The header field's value for a tag."""
    return f'"{tag}"'


def _if_match(
    if_match: Annotated[
        str | None, Header(description="Change it only if its ETag is still this one.", examples=['"3d6f0a86.7"'])
    ] = None,
) -> frozenset[str] | None:
    if if_match is None or if_match.strip() == "*":
        return None
    if not _TAGS.fullmatch(if_match):
        raise InvalidValue("If-Match", "not_entity_tags")
    # A weak tag never matches (RFC 9110 section 8.8.3.2).
    return frozenset(tag for weak, tag in _STRONG.findall(if_match) if not weak)


IfMatch = Annotated[frozenset[str] | None, Depends(_if_match)]
"""The tags in If-Match, one of which has to be the current tag; None if any state will do."""
