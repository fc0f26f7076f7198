"""A secret is not seen, however somebody looks at it."""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import pickle
import pprint
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi.encoders import jsonable_encoder
from pydantic_core import to_json
from rich.console import Console
from rich.pretty import Pretty

from domain.outcomes import Credential, DeviceAuthorization, Granted
from domain.ports import Reply
from domain.secret import Secret

VALUE = "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9"
NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)


@pytest.fixture(params=["a secret", "a credential", "a grant", "a device code"])
def holder(request: pytest.FixtureRequest) -> object:
    """A secret, and what holds one."""
    credential = Credential(Secret(VALUE), Secret(VALUE), "SMTP.Send", NOW, NOW)
    return {
        "a secret": Secret(VALUE),
        "a credential": credential,
        "a grant": Granted(credential, None),
        "a device code": DeviceAuthorization("WDJB-MJHT", "https://provider.example", None, 5, NOW, Secret(VALUE)),
    }[request.param]


def logged(value: object) -> str:
    written = io.StringIO()
    logger = logging.Logger("secrets")
    logger.addHandler(logging.StreamHandler(written))
    logger.warning("%s %r", value, value)
    return written.getvalue()


def raised(value: object) -> str:
    try:
        raise ValueError(value)
    except ValueError as error:
        return "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format()) + repr(error)


def drawn(value: object) -> str:
    console = Console(file=io.StringIO(), width=500)
    console.print(Pretty(value, expand_all=True))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


LOOKS: dict[str, Callable[[object], object]] = {
    "repr": repr,
    "str": str,
    "ascii": ascii,
    "format": format,
    "f-string": lambda value: f"{value} {value!s} {value!r} {value!a}",
    "str.format": "{0} {0!r} {0!s}".format,
    "percent": lambda value: "%s %r" % (value, value),  # noqa: UP031 - that is what is looked at
    "in a container": lambda value: repr([value, {"token": value}, (value,)]),
    "pprint": pprint.pformat,
    "rich": drawn,
    "a log line": logged,
    "an exception": raised,
    "json with str as a last resort": lambda value: json.dumps({"token": value}, default=str),
    "json with repr as a last resort": lambda value: json.dumps({"token": value}, default=repr),
}


@pytest.mark.parametrize("look", LOOKS)
def test_a_secret_is_hidden_from(look: str, holder: object) -> None:
    seen = str(LOOKS[look](holder))
    assert VALUE not in seen
    assert "***" in seen


SERIALIZERS: dict[str, Callable[[Any], object]] = {
    "pickle": pickle.dumps,
    "the oldest pickle": lambda value: pickle.dumps(value, protocol=0),
    "json": json.dumps,
    "json of a dataclass": lambda value: json.dumps(dataclasses.asdict(value), default=str),
    "astuple": lambda value: str(dataclasses.astuple(value)),
    "a web response": lambda value: json.dumps(jsonable_encoder(value)),
    "a model": lambda value: to_json(value).decode(),
}


@pytest.mark.parametrize("serializer", SERIALIZERS)
def test_a_secret_can_not_leave_the_process_by(serializer: str, holder: object) -> None:
    """Either there is nothing, or there is no secret in it."""
    try:
        out = SERIALIZERS[serializer](holder)
    except (TypeError, ValueError):
        return
    assert VALUE not in str(out)


def test_a_format_specification_does_not_show_it_either() -> None:
    assert f"{Secret(VALUE):>40}" == f"{Secret(VALUE):s}" == "***"


@pytest.mark.parametrize("value", ["", "x", VALUE])
def test_what_is_shown_does_not_depend_on_the_secret(value: str) -> None:
    assert str(Secret(value)) == repr(Secret(value)) == f"{Secret(value)}" == "***"


def test_only_reveal_gives_it_away() -> None:
    assert Secret(VALUE).reveal() == VALUE


def test_pickling_says_what_is_wrong() -> None:
    with pytest.raises(TypeError, match=r"^a Secret can't be pickled$"):
        pickle.dumps(Secret(VALUE))


def test_secrets_are_equal_if_their_values_are() -> None:
    assert Secret(VALUE) == Secret(VALUE)
    assert hash(Secret(VALUE)) == hash(Secret(VALUE))
    assert Secret(VALUE) != Secret("another")
    assert Secret(VALUE) != VALUE


def test_a_secret_never_changes() -> None:
    secret = Secret(VALUE)
    with pytest.raises(AttributeError):
        secret._value = "another"
    with pytest.raises((AttributeError, TypeError)):
        secret.note = "another"
    assert secret.reveal() == VALUE


def test_a_reply_does_not_show_its_body() -> None:
    reply = Reply(200, (("Content-Type", "application/json"),), f'{{"access_token": "{VALUE}"}}'.encode(), NOW)
    assert repr(reply) == str(reply) == f"{reply}" == "Reply(status=200, 56 bytes)"
