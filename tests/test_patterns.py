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


def modules_with_patterns() -> Iterator[str]:
    for package in (domain, infrastructure, adapters):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.startswith(OPERATORS_OWN) and any(f".{use}(" in source_of(found) for use in _USES):
                yield found.name


def source_of(found: pkgutil.ModuleInfo) -> str:
    spec = found.module_finder.find_spec(found.name, None)
    assert spec
    assert spec.origin
    return Path(spec.origin).read_text()


def patterns(name: str) -> dict[str, tuple[re.Pattern[Any], str]]:
    """The patterns of a module by place, each with a way in which it is used."""
    found: dict[str, tuple[re.Pattern[Any], str]] = {}
    module = importlib.import_module(name)
    assert module.__file__
    written = Path(module.__file__).read_text()
    for attribute, value in vars(module).items():
        if isinstance(value, re.Pattern):
            for use in set(re.findall(rf"\b{attribute}\.(\w+)\(", written)) & _USES:
                found[f"{attribute}.{use}"] = value, use
    for call in ast.walk(ast.parse(written)):
        match call:
            case ast.Call(ast.Attribute(ast.Name("re"), use), [ast.Constant(text), *_]) if use in _USES:
                found[f"{use} {text!r}"] = re.compile(text), use
    return found


@pytest.mark.parametrize("module", list(modules_with_patterns()))
def test_the_work_of_a_pattern_grows_with_the_text_alone(module: str) -> None:
    assert {place: superlinear(*pattern) for place, pattern in patterns(module).items()} == dict.fromkeys(
        patterns(module)
    )


def test_the_patterns_are_found() -> None:
    assert sum(len(patterns(module)) for module in modules_with_patterns()) > 50


@pytest.mark.parametrize(
    ("pattern", "use"), [("a+b", "search"), (" *x? *", "fullmatch"), ("(a+)+", "fullmatch"), ("<[^>]*>", "findall")]
)
def test_work_that_grows_with_the_square_of_a_text_is_found(pattern: str, use: str) -> None:
    assert superlinear(re.compile(pattern), use)
