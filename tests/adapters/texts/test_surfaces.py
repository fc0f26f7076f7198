"""No text on a page names a command or an option, and no text of the terminal names a button."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters import cli
from adapters.http.web.texts import TEXTS
from adapters.texts.errors import ERRORS
from adapters.texts.events import EVENTS
from adapters.texts.provider_check import _FINDINGS, _FLOWS, _REMEDIES, _STEPS
from adapters.texts.reasons import ALARMS, AT_SIGN_IN, REASONS, WARNINGS, WITH_NAMES
from adapters.texts.verdicts import FAULTS, VERDICTS
from adapters.texts.wording import ErrorText, Surface

COMMAND = re.compile(r"\bmailtoken [a-z]|(?<![\w-])--[a-z]")
BUTTON = re.compile(r"\b(button|click)\b|\[(Get Token|Delete|Renew)\]", re.IGNORECASE)

BY_SURFACE: dict[str, ErrorText] = {
    **ERRORS,
    **VERDICTS,
    **REASONS,
    **ALARMS,
    **WARNINGS,
    **{f"{code} with names": text for code, text in WITH_NAMES.items()},
    **{f"{code} at sign-in": text for code, text in AT_SIGN_IN.items()},
}
ON_EVERY_SURFACE = {**EVENTS, **FAULTS}


def texts_of(*modules: Path) -> Iterator[str]:
    """The literal texts of modules, without their docstrings."""
    for module in modules:
        tree = ast.parse(module.read_text())
        docstrings = {
            node.body[0].value
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings:
                yield node.value


@pytest.mark.parametrize("code", BY_SURFACE)
def test_a_page_names_no_command_and_the_command_line_no_button(code: str) -> None:
    text = BY_SURFACE[code]
    for words in (text.fact, text.step or "", text.page or "", text.api or ""):
        assert not COMMAND.search(words)
    for words in (text.fact, text.step or "", text.command or ""):
        assert not BUTTON.search(words)


def test_what_both_show_names_neither() -> None:
    for words in ON_EVERY_SURFACE.values():
        assert not COMMAND.search(words)
        assert not BUTTON.search(words)


def test_the_pages_own_texts_name_no_command() -> None:
    assert [words for words in TEXTS.values() if COMMAND.search(words)] == []


def test_what_the_check_of_a_provider_finds_names_no_command_on_a_page() -> None:
    shared = [*_FINDINGS.values(), *_REMEDIES.values(), *_STEPS.values()]
    assert [words for words in (*shared, *_FLOWS[Surface.PAGE].values()) if COMMAND.search(words)] == []
    assert [words for words in (*shared, *_FLOWS[Surface.COMMAND].values()) if BUTTON.search(words)] == []


def test_the_command_lines_own_texts_name_no_button() -> None:
    modules = Path(cli.__path__[0]).rglob("*.py")
    assert [words for words in texts_of(*modules) if BUTTON.search(words)] == []
