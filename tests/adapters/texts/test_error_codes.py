"""Every code that the program raises has a sentence."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import adapters
import domain
import infrastructure
from adapters.relay import reply_texts
from adapters.texts.errors import ERRORS
from domain import errors

CODE_POSITION = {
    name: 1 if name == "InvalidValue" else 0
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, errors.MailtokenError)
} | {"HTTPError": 1}
LOGGED_ALONE = {"IllegalHistory", "VaultDamaged"}
"""No surface shows these."""


def codes_in(source: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(source.read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id in LOGGED_ALONE:
            continue
        position = CODE_POSITION.get(node.func.id)
        code = node.args[position] if position is not None and len(node.args) > position else None
        if isinstance(code, ast.Constant):
            yield str(code.value)
        elif isinstance(code, ast.JoinedStr) and any(
            " " in str(part.value) for part in code.values if isinstance(part, ast.Constant)
        ):
            yield ast.unparse(code)


def test_every_code_that_is_raised_has_a_sentence() -> None:
    rooms = [Path(room.__path__[0]) for room in (domain, infrastructure, adapters)]
    sources = [source for room in rooms for source in sorted(room.rglob("*.py"))]
    missing = {
        (source.name, code)
        for source in sources
        for code in codes_in(source)
        if code not in {*ERRORS, *reply_texts._TEXTS}
    }
    assert missing == set()


def test_every_sentence_is_of_a_code_that_the_program_knows() -> None:
    rooms = [Path(room.__path__[0]) for room in (domain, infrastructure, adapters)]
    sources = [source for room in rooms for source in room.rglob("*.py") if source.parent.name != "texts"]
    program = "".join(source.read_text() for source in sources)
    # The beginning of some codes is the kind of what they are about: f"{kind}_not_found".
    endings = tuple(set(re.findall(r"\{[a-z_.]+\}(_[a-z_]+)\"", program)))
    assert [code for code in ERRORS if f'"{code}"' not in program and not code.endswith(endings)] == []
