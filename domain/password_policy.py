"""The rules for a password of a relay user or an administrator (NIST SP 800-63B)."""

from __future__ import annotations

import unicodedata

from domain.errors import InvalidValue
from domain.secret import Secret

SHORTEST_PASSWORD, LONGEST_PASSWORD = 12, 255
_LONGEST_TO_COMPOSE = 4096


def comparable(password: Secret) -> Secret:
    """The password in the form that is hashed and compared: Unicode NFC (RFC 8265 section 4.2)."""
    return Secret(composed(password.reveal()))


def composed(text: str) -> str:
    """`text` in the normal form NFC; text that is too long for a name or a password stays as it is."""
    # The time to normalize a text grows with the square of its length.
    return unicodedata.normalize("NFC", text) if len(text) <= _LONGEST_TO_COMPOSE else text


def check_password(password: Secret) -> None:
    """Check a new password: it must be hard to guess, and every mail protocol must be able to send it.

    Raises:
        InvalidValue: the password is too short or too long, or contains a control character.
    """
    text = comparable(password).reveal()
    if not SHORTEST_PASSWORD <= len(text) <= LONGEST_PASSWORD or not text.isprintable():
        raise InvalidValue("password", "password_unsuitable", shortest=SHORTEST_PASSWORD, longest=LONGEST_PASSWORD)
