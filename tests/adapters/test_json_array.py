"""An array that is written an object a line is read back so, and an array that was cut is none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapters.json_array import array_lines, objects_of

ARRAYS: list[list[dict[str, Any]]] = [[], [{}], [{"a": "],\n"}], [{"a": 1}, {"b": [2, {"c": "]"}]}, {"d": None}]]


@pytest.mark.parametrize("objects", ARRAYS)
def test_the_lines_are_one_array_and_give_the_objects_back(objects: list[dict[str, Any]]) -> None:
    text = "".join(array_lines(objects))
    assert json.loads(text) == objects
    assert list(objects_of(text.encode().splitlines(keepends=True))) == objects


@pytest.mark.parametrize("objects", ARRAYS)
def test_an_array_that_was_cut_is_refused(objects: list[dict[str, Any]]) -> None:
    lines = "".join(array_lines(objects)).encode().splitlines(keepends=True)
    with pytest.raises(ValueError, match="no end"):
        list(objects_of(lines[:-1]))


def test_a_line_that_is_no_object_is_refused() -> None:
    with pytest.raises(ValueError, match="Expecting"):
        list(objects_of([b"<html>\n", b"]\n"]))
