"""The work of a regular expression, counted in steps by a matcher that backtracks as Python's does.

Python's own matcher counts no steps, and time is no measure. This one runs the same parse tree: what makes it try again
and again makes Python's try again and again.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import sre_constants as sre
    import sre_parse

Node = tuple[Any, Any]
Next = Callable[[int], bool]
_KILLERS = ("", "\x00")
_TIMES = 25
_MOST_STEPS = 300_000
_DEPTH = 20_000
"""The continuations of a text of this matcher are nested as deep as the text is long, several for each character."""


class TooMuchWork(Exception):
    """The matcher was stopped."""


@dataclass
class _Matcher:
    """Matches a text from one position on. Recursion is by continuation; `steps` counts every node that is tried."""

    text: str
    flags: int
    steps: int = 0
    groups: dict[int, tuple[int, int]] = field(default_factory=dict)

    def sequence(self, nodes: Sequence[Node], at: int, then: Next) -> bool:
        if not nodes:
            return then(at)
        return self.node(nodes[0], at, lambda end: self.sequence(nodes[1:], end, then))

    def node(self, node: Node, at: int, then: Next) -> bool:
        self.steps += 1
        if self.steps > _MOST_STEPS:
            raise TooMuchWork
        kind, value = node
        if kind in (sre.LITERAL, sre.NOT_LITERAL, sre.ANY, sre.IN):
            return at < len(self.text) and self.takes(node, self.text[at]) and then(at + 1)
        if kind is sre.BRANCH:
            return self.branch(value[1], at, then)
        if kind is sre.SUBPATTERN:
            return self.group(value[0], list(value[3]), at, then)
        if kind in (sre.MAX_REPEAT, sre.MIN_REPEAT):
            return self.repeat(value, at, then, is_greedy=kind is sre.MAX_REPEAT)
        if kind is sre.AT:
            return self.is_at(value, at) and then(at)
        if kind in (sre.ASSERT, sre.ASSERT_NOT):
            return self.looks(value, at) is (kind is sre.ASSERT) and then(at)
        if kind is sre.GROUPREF:
            begin, end = self.groups.get(value, (0, 0))
            return self.text.startswith(self.text[begin:end], at) and then(at + end - begin)
        raise NotImplementedError(kind)

    def branch(self, branches: Sequence[Any], at: int, then: Next) -> bool:
        # Not by `any` of a generator, which is a call in C: those can't be nested as deep.
        for branch in branches:  # noqa: SIM110
            if self.sequence(list(branch), at, then):
                return True
        return False

    def group(self, number: int | None, nodes: Sequence[Node], at: int, then: Next) -> bool:
        def ended(end: int) -> bool:
            if number is not None:
                self.groups[number] = (at, end)
            return then(end)

        return self.sequence(nodes, at, ended)

    def repeat(self, value: Any, at: int, then: Next, *, is_greedy: bool) -> bool:
        least, most, body = value[0], value[1], list(value[2])
        if len(body) == 1 and body[0][0] in (sre.LITERAL, sre.NOT_LITERAL, sre.ANY, sre.IN):
            return self.repeat_one(body[0], (least, most), at, then, is_greedy=is_greedy)

        def more(done: int, here: int) -> bool:
            def again(end: int) -> bool:
                return end > here and more(done + 1, end)

            may = done < most
            if done < least:
                return self.sequence(body, here, lambda end: more(done + 1, end))
            if is_greedy:
                return (may and self.sequence(body, here, again)) or then(here)
            return then(here) or (may and self.sequence(body, here, again))

        return more(0, at)

    def repeat_one(self, node: Node, limits: tuple[int, int], at: int, then: Next, *, is_greedy: bool) -> bool:
        """A repeat of one character, without recursion: all that fit, and then one less each time."""
        least, most = limits
        longest = at
        while longest < len(self.text) and longest - at < most and self.takes(node, self.text[longest]):
            longest += 1
            self.steps += 1
        ends = range(longest, at + least - 1, -1) if is_greedy else range(at + least, longest + 1)
        for end in ends:
            self.steps += 1
            if then(end):
                return True
        return False

    def takes(self, node: Node, sign: str) -> bool:
        kind, value = node
        if kind is sre.ANY:
            return sign != "\n" or bool(self.flags & re.DOTALL)
        if kind is sre.IN:
            negated = value[0][0] is sre.NEGATE
            return any(self.takes_item(item, sign) for item in value[negated:]) is not negated
        same = sign == chr(value) or (bool(self.flags & re.IGNORECASE) and sign.lower() == chr(value).lower())
        return same is (kind is sre.LITERAL)

    def takes_item(self, item: Node, sign: str) -> bool:
        kind, value = item
        if kind is sre.RANGE:
            cases = (sign, sign.lower(), sign.upper()) if self.flags & re.IGNORECASE else (sign,)
            return any(value[0] <= ord(case[0]) <= value[1] for case in cases)
        if kind is sre.CATEGORY:
            return bool(re.fullmatch(_CATEGORIES[value], sign))
        return self.takes(item, sign)

    def is_at(self, where: Any, at: int) -> bool:
        text = self.text
        if where in (sre.AT_BEGINNING, sre.AT_BEGINNING_STRING):
            is_line = bool(self.flags & re.MULTILINE) and where is sre.AT_BEGINNING
            return at == 0 or (is_line and text[at - 1] == "\n")
        if where in (sre.AT_END, sre.AT_END_STRING):
            return at == len(text) or (where is sre.AT_END and text[at] == "\n")
        word = [0 <= place < len(text) and (text[place].isalnum() or text[place] == "_") for place in (at - 1, at)]
        return (word[0] != word[1]) is (where is sre.AT_BOUNDARY)

    def looks(self, value: Any, at: int) -> bool:
        direction, nodes = value[0], list(value[1])
        if direction < 0:
            width = value[1].getwidth()[0]
            return at >= width and self.sequence(nodes, at - width, lambda end: end == at)
        return self.sequence(nodes, at, lambda _: True)


_CATEGORIES = {
    sre.CATEGORY_DIGIT: r"\d",
    sre.CATEGORY_NOT_DIGIT: r"\D",
    sre.CATEGORY_SPACE: r"\s",
    sre.CATEGORY_NOT_SPACE: r"\S",
    sre.CATEGORY_WORD: r"\w",
    sre.CATEGORY_NOT_WORD: r"\W",
}


def steps(pattern: re.Pattern[Any], text: str, use: str) -> int:
    """The steps for a text, as the pattern is used: by `match`, `fullmatch`, or `search` and its like."""
    tree = list(_tree(pattern))
    matcher = _Matcher(text, pattern.flags)
    starts = [0] if use in ("match", "fullmatch") else range(len(text) + 1)
    at = 0
    for start in starts:
        if start < at:
            continue
        ended = [0]

        def then(end: int, ended: list[int] = ended) -> bool:
            ended[0] = end
            return use != "fullmatch" or end == len(text)

        if matcher.sequence(tree, start, then):
            at = max(ended[0], start + 1)  # `findall` and `sub` go on behind it
    return matcher.steps


def hostile_texts(pattern: re.Pattern[Any]) -> Iterator[Callable[[int], str]]:
    """Texts of any length that may make the pattern try again and again, each as a function of its length.

    For each repeat: what leads there, then what it takes, many times, then something that it does not take.
    """
    tree = list(_tree(pattern))
    repeats = set(_repeats(tree, "", pattern.flags))
    pumps = {*_signs(tree, pattern.flags), *(text for both in repeats for text in both), _example(tree, pattern.flags)}
    leads = {lead for lead, _ in repeats} | {""}
    for pump in sorted(pumps - {""}):
        for lead in sorted(leads):
            for killer in _KILLERS:
                yield lambda times, lead=lead, pump=pump, killer=killer: lead + pump * times + killer  # type: ignore[misc]


def superlinear(pattern: re.Pattern[Any], use: str) -> str | None:
    """The beginning of a text whose doubling, again and again, more than doubles the work; None if there is none."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(_DEPTH)
    try:
        for text in hostile_texts(pattern):
            try:
                one, two, four = (steps(pattern, text(times * _TIMES), use) for times in (1, 2, 4))
            except TooMuchWork:
                return text(4)
            # A repeat that has a limit may be beyond it only once.
            if two > 2.6 * one and four > 2.6 * two:
                return text(4)
    finally:
        sys.setrecursionlimit(before)
    return None


def _tree(pattern: re.Pattern[Any]) -> Any:
    written = pattern.pattern
    return sre_parse.parse(
        written if isinstance(written, str) else written.decode("latin-1"), pattern.flags & ~re.UNICODE
    )


def _signs(nodes: Sequence[Node], flags: int) -> Iterator[str]:
    """One character for each part of the pattern that takes one."""
    for kind, value in nodes:
        if kind in (sre.LITERAL, sre.NOT_LITERAL, sre.ANY, sre.IN):
            yield _example([(kind, value)], flags)
            if kind is sre.NOT_LITERAL:
                yield chr(value)
            if kind is sre.IN and value[0][0] is sre.NEGATE:
                yield from (chr(item) for which, item in value if which is sre.LITERAL)
        for nested in _nested(kind, value):
            yield from _signs(nested, flags)


def _nested(kind: Any, value: Any) -> list[list[Node]]:
    if kind is sre.BRANCH:
        return [list(branch) for branch in value[1]]
    if kind is sre.SUBPATTERN:
        return [list(value[3])]
    if kind in (sre.MAX_REPEAT, sre.MIN_REPEAT):
        return [list(value[2])]
    if kind in (sre.ASSERT, sre.ASSERT_NOT):
        return [list(value[1])]
    return []


def _repeats(nodes: Sequence[Node], lead: str, flags: int) -> Iterator[tuple[str, str]]:
    """For each repeat, a text that leads to it and one that it takes."""
    for kind, value in nodes:
        if kind in (sre.MAX_REPEAT, sre.MIN_REPEAT) and value[1] > 1:
            yield lead, _example(list(value[2]), flags)
        for nested in _nested(kind, value):
            yield from _repeats(nested, lead, flags)
        lead += _example([(kind, value)], flags)


def _example(nodes: Sequence[Node], flags: int) -> str:
    """A short text that these nodes take."""
    text = ""
    for kind, value in nodes:
        if kind is sre.LITERAL:
            text += chr(value)
        elif kind in (sre.NOT_LITERAL, sre.ANY, sre.IN):
            matcher = _Matcher("", flags)
            text += next(sign for sign in _TRIED if matcher.takes((kind, value), sign))
        elif kind is sre.BRANCH:
            text += min((_example(list(branch), flags) for branch in value[1]), key=len)
        elif kind is sre.SUBPATTERN:
            text += _example(list(value[3]), flags)
        elif kind in (sre.MAX_REPEAT, sre.MIN_REPEAT):
            text += _example(list(value[2]), flags) * max(1, value[0])
    return text


_TRIED = "a12A-._:/ \"'<>[](){}@,;=+~\t\r\n\\\0\x01\x7f\x80\xa0\u2014\u2018\ud800"
