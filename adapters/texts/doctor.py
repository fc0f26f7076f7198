"""The sentences of `mailtoken doctor`, by code."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from adapters.texts.errors import filled
from adapters.texts.wording import ErrorText, Surface

DOCTOR_TEXTS: Mapping[str, ErrorText] = MappingProxyType(
    {
        "configuration_good": ErrorText("{path} has no faults"),
        "key_good": ErrorText("it is there, and only its owner can read it"),
        "store_good": ErrorText("it opens with this key and has {settings} settings"),
        "store_looks_new": ErrorText(
            "it opens with this key and has nothing yet, as a copy of a running store without its -wal file does too"
        ),
        "on_hold": ErrorText(
            "it is on hold, so no token is renewed",
            command="see that no other service runs on it, then run mailtoken resume",
        ),
        "log_known": ErrorText("it has event {number}, the last one that this host has seen"),
        "log_unknown": ErrorText("this host has not seen it yet: nothing to compare with"),
        "log_behind": ErrorText(
            "it is shorter than this host has seen it: event {number} is missing",
            command="put the newer store back; or see that nothing newer runs elsewhere, then run mailtoken resume",
        ),
        "log_differs": ErrorText(
            "it is not the one that this host has seen: event {number} is another",
            command="run mailtoken audit verify, and put the right store back, or run mailtoken resume --because TEXT",
        ),
        "row_altered": ErrorText(
            "something else than this program altered rows in it",
            command="run mailtoken audit verify, which names them, then mailtoken audit rebuild",
        ),
        "room_good": ErrorText("{directory} has {mebibytes} MiB free"),
        "room_short": ErrorText("{directory} has only {mebibytes} MiB free", "free space there"),
        "clock_good": ErrorText("it is not behind the log"),
        "clock_behind": ErrorText("it is behind the log, whose last event is of {instant}", "set the clock"),
        "certificate_good": ErrorText("it is good until {until}"),
        "certificate_ends": ErrorText("it ends at {until}", "renew it; it is read again without a restart"),
        "certificate_over": ErrorText("it has ended at {until}", "renew it; it is read again without a restart"),
        "service_good": ErrorText("it answers, its workers are alive, and it could store a token now"),
        "service_away": ErrorText("{reason}"),
        "port_good": ErrorText("something listens there"),
        "port_closed": ErrorText("nothing listens there", "start what should; see its log"),
        "provider_good": ErrorText("its registration has no faults that can be seen from outside"),
        "provider_bad": ErrorText("its registration has faults", command="run mailtoken provider check {provider}"),
        "provider_unknown": ErrorText("it was not checked: {reason}"),
        "backup_good": ErrorText("the last backup is of {instant}"),
        "backup_old": ErrorText("the last backup is of {instant}", command="run mailtoken backup FILE"),
        "backup_none": ErrorText("there was none", command="run mailtoken backup FILE, and keep the key apart from it"),
    }
)


def doctor_text(code: str, **fields: object) -> str:
    """The fact and the next step."""
    return filled(DOCTOR_TEXTS[code], fields, Surface.COMMAND)
