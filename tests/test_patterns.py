"""Every regular expression of the product: its work grows with a text and not with the square of it."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pattern_steps import superlinear

import adapters
import domain
import infrastructure

OPERATORS_OWN = ("infrastructure.config", "adapters.cli.commands", "adapters.providers.client_authentication")
"""Modules whose patterns see what the operator wrote for this service, and nothing from elsewhere."""
_USES = {"search", "match", "fullmatch", "sub", "subn", "split", "findall", "finditer"}


def modules() -> Iterator[str]:
    for package in (domain, infrastructure, adapters):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            yield found.name


def patterns() -> dict[str, tuple[re.Pattern[Any], str]]:
    """The patterns of all modules by place, each with a way in which it is used."""
    found: dict[str, tuple[re.Pattern[Any], str]] = {}
    for name in modules():
        if name.startswith(OPERATORS_OWN):
            continue
        module = importlib.import_module(name)
        assert module.__file__
        written = Path(module.__file__).read_text()
        for attribute, value in vars(module).items():
            if isinstance(value, re.Pattern):
                for use in set(re.findall(rf"\b{attribute}\.(\w+)\(", written)) & _USES:
                    found[f"{name}.{attribute}.{use}"] = value, use
        for call in ast.walk(ast.parse(written)):
            match call:
                case ast.Call(ast.Attribute(ast.Name("re"), use), [ast.Constant(text), *_]) if use in _USES:
                    found[f"{name}: {use} {text!r}"] = re.compile(text), use
    return found


PATTERNS = patterns()


@pytest.mark.parametrize("place", sorted(PATTERNS))
def test_the_work_of_a_pattern_grows_with_the_text_alone(place: str) -> None:
    assert superlinear(*PATTERNS[place]) is None


@pytest.mark.parametrize(
    ("pattern", "use"), [("a+b", "search"), (" *x? *", "fullmatch"), ("(a+)+", "fullmatch"), ("<[^>]*>", "findall")]
)
def test_work_that_grows_with_the_square_of_a_text_is_found(pattern: str, use: str) -> None:
    assert superlinear(re.compile(pattern), use)
