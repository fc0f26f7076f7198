"""All texts of the pages are in one catalogue, and the templates have no others."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from adapters.http.web import texts
from adapters.http.web.rendering import render, static_files

_WEB = files("adapters.http.web")
TEMPLATES = sorted(file.name for file in _WEB.joinpath("templates").iterdir())
SOURCES = [file.read_text() for file in _WEB.iterdir() if file.name.endswith(".py") and file.name != "texts.py"]


def source(template: str) -> str:
    return _WEB.joinpath("templates", template).read_text()


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_has_no_words_of_its_own(template: str) -> None:
    shown = re.sub(r"\{%.*?%\}|\{\{.*?\}\}|\{#.*?#\}", "", source(template), flags=re.DOTALL)
    # In attributes that are read out or shown, too.
    spoken = re.findall(r'(?:aria-label|alt|title|placeholder)="([^"]*)"', shown)
    between_tags = re.sub(r"<[^>]*>|&\w+;", "", shown)
    assert re.findall(r"[A-Za-z]{2,}", between_tags + " ".join(spoken)) == []


def test_every_text_of_the_catalogue_is_used() -> None:
    everything = "\n".join([*map(source, TEMPLATES), *SOURCES])
    exact = set(re.findall(r"""(?:\bt\(|\btext\(|")\s*["']?([a-z_]+(?:\.[a-z_]+)*)["']""", everything))
    begun = set(re.findall(r"""[("']([a-z_]+\.)(?:[a-z_]+\.)*['{]""", everything))
    unused = [name for name in texts.TEXTS if name not in exact and not any(name.startswith(one) for one in begun)]
    assert unused == []


def test_a_text_that_is_not_there_is_an_error() -> None:
    with pytest.raises(KeyError):
        texts.text("no_such_text")


def test_the_library_that_is_not_ours_is_here_with_its_licence() -> None:
    assert b"Zero-Clause BSD" in static_files()["htmx.LICENSE.txt"].body


def test_what_comes_from_outside_is_escaped() -> None:
    document = render(
        "sign_in.html",
        next="/",
        name='"><script>alert(1)</script>',
        provider=None,
        first_link_file=None,
        trouble="<b>no</b>",
    )
    assert "<script>alert" not in document
    assert "<b>no" not in document


@pytest.mark.parametrize("template", TEMPLATES)
def test_no_page_has_a_script_or_style_within_it(template: str) -> None:
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son[a-z]+=|javascript:", source(template))
