"""The sentences about refused clients of the relay, by cause: the fact, and what to set at the client's panel."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from adapters.texts.wording import ErrorText, Surface

REFUSALS: Mapping[str, ErrorText] = MappingProxyType(
    {
        "wrong_password": ErrorText(
            "the user or the password is wrong",
            "type the relay user's name and password again",
            command="type the relay user's name and password again (mailtoken relay user password makes a new one)",
        ),
        "other_identity": ErrorText(
            "the authorization identity is another user than the user name", "leave the authorization identity empty"
        ),
        "not_signed_in": ErrorText(
            "the client did not sign in",
            "turn SMTP authentication on, with a relay user's name and password, or give a relay user the client's"
            " network",
            command="turn SMTP authentication on, with a relay user's name and password, or name the client's network"
            " (mailtoken relay user networks)",
        ),
        "not_encrypted": ErrorText(
            "the client would send its password in clear text",
            "turn TLS on, or name its network in plain_networks under [relay]",
        ),
        "tls_too_old": ErrorText(
            "the client supports no TLS 1.2 or newer", "update it, or name its network in plain_networks under [relay]"
        ),
        "no_shared_cipher": ErrorText(
            "the client supports TLS 1.2 but none of the ciphers of this port",
            'update it, or set it to a port of its own with ciphers = "legacy" under [[relay.listeners]]',
        ),
        "certificate_not_trusted": ErrorText(
            "the client does not accept the relay's certificate",
            "type the host name that is in the certificate, and import the authority that issued it",
        ),
        "tls_failed": ErrorText("TLS failed"),
        "tls_at_plain_port": ErrorText(
            "the client began TLS at once, at a port that begins in clear text",
            "set the client's TLS to STARTTLS",
        ),
        "no_tls_at_tls_port": ErrorText(
            "the client sent no TLS, at a port that begins with TLS",
            "set the client's TLS to SSL/TLS, from the beginning of the connection",
        ),
        "command": ErrorText("the client sent a command that the relay does not take"),
        "bare_line_end": ErrorText(
            "the message has a line that does not end in CR LF, or a NUL",
            "set normalize=crlf for the relay user",
            command="mailtoken relay user set NAME normalize=crlf",
        ),
        "line_too_long": ErrorText(
            "a line of the message is too long", "have the client encode its text as quoted-printable or base64"
        ),
        "too_big": ErrorText("the message is too big", "choose a lower resolution, or send it in parts"),
        "sender": ErrorText(
            "the mailbox may not send as the client's From address",
            "set From, or the administrator's address, to the address of the mailbox, or set sender for the relay user",
            command="set From, or the administrator's address, to the address of the mailbox, or have the relay do so"
            " (mailtoken relay user set NAME sender=ADDRESS)",
        ),
        "recipient": ErrorText("the mail server refused the recipient", "correct the address in the address book"),
        "message": ErrorText("the mail server refused the message"),
        "too_many_connections": ErrorText(
            "there are too many connections", "raise connections or connections_per_address under [relay]"
        ),
        "mail_server_busy": ErrorText(
            "the mail server wants a pause, or the mailbox is at its limit",
            "nothing is to be set: the client tries again",
        ),
        "mail_server": ErrorText(
            "the mail server could not be used",
            "test the setting's connection",
            command="mailtoken test PROFILE says why",
        ),
        "service": ErrorText(
            "the token service has no token for the client",
            "look at the setting's status",
            command="mailtoken status shows the setting",
        ),
    }
)


def refusal_text(cause: str, surface: Surface) -> str:
    """The sentence for a cause; a cause of another version is shown as its code."""
    text = REFUSALS.get(cause)
    if text is None:
        return cause
    step = text.next_step(surface)
    return f"{text.fact}: {step}" if step else text.fact
