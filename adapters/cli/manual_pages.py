"""The manual pages of the command line, in man(7), made from its own structure: one page for each command and noun.

What a command says about itself (its help) is all that a page has, so pages and `--help` never disagree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from adapters.error_kinds import ExitCode

_SECTION = "1"
_EXIT_STATUS = {
    ExitCode.DONE: "done",
    ExitCode.FAILED: "failed, with a reason",
    ExitCode.USAGE: "usage",
    ExitCode.NOT_PERMITTED: "not permitted",
    ExitCode.NOT_FOUND: "not found",
    ExitCode.REFUSED: "refused in this state",
    ExitCode.UNREACHABLE: "the service, a provider or a mail server can't be reached",
    ExitCode.CHANGED: "something was changed, or would be; only of apply with --detailed-exit-code",
    ExitCode.INTERRUPTED: "ended by Ctrl-C",
    ExitCode.OUTPUT_CLOSED: "nobody reads the output any more",
}


@dataclass(frozen=True)
class ManualPage:
    """The manual page of a command. `command` has the command's words, such as ("mailtoken", "token", "get")."""

    command: tuple[str, ...]
    text: str

    @property
    def file_name(self) -> str:
        """The name of its file, such as `mailtoken-token-get.1`."""
        return f"{'-'.join(self.command)}.{_SECTION}"


def manual_pages(command: Any, words: Sequence[str] = ("mailtoken",)) -> Iterator[ManualPage]:
    """The pages of a command of Typer, or of Click, and of all commands below it."""
    below = dict(getattr(command, "commands", {}))
    yield ManualPage(tuple(words), "\n".join(_lines(command, words, below)) + "\n")
    for name, one in below.items():
        yield from manual_pages(one, (*words, name))


def _lines(command: Any, words: Sequence[str], below: dict[str, Any]) -> Iterator[str]:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and not one.hidden]
    name = "-".join(words)
    summary, *more = _paragraphs(command.help)
    yield f'.TH "{name.upper()}" "{_SECTION}" "" "mailtoken" "Mailtoken"'
    yield ".SH NAME"
    yield f"{_escaped(name)} \\- {_escaped(summary.rstrip('.'))}"
    yield ".SH SYNOPSIS"
    yield f".B {_escaped(' '.join(words))}"
    yield _escaped(_usage(arguments, has_options=bool(options), has_commands=bool(below)))
    if more:
        yield ".SH DESCRIPTION"
        for number, paragraph in enumerate(more):
            if number:
                yield ".PP"
            yield _text(paragraph)
    yield from _list("ARGUMENTS", ((_metavar(one), _help(one)) for one in arguments))
    yield from _list("OPTIONS", ((_option(one), _help(one)) for one in options))
    yield from _list("COMMANDS", ((sub, _paragraphs(one.help)[0]) for sub, one in below.items()))
    yield from _list("EXIT STATUS", ((str(int(code)), meaning) for code, meaning in _EXIT_STATUS.items()))
    yield from _see_also(words, below)


def _usage(arguments: Sequence[Any], *, has_options: bool, has_commands: bool) -> str:
    parts = ["[OPTIONS]"] if has_options else []
    parts += [_metavar(one) if one.required else f"[{_metavar(one)}]" for one in arguments]
    return " ".join([*parts, *(["COMMAND"] if has_commands else [])])


def _metavar(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    return f"{name}..." if argument.nargs == -1 else str(name)


def _option(option: Any) -> str:
    names = ", ".join([*option.opts, *option.secondary_opts])
    if option.is_flag or option.count:
        return names
    return f"{names} {option.metavar or option.name.upper()}"


def _help(parameter: Any) -> str:
    return _paragraphs(getattr(parameter, "help", None))[0]


def _list(heading: str, entries: Any) -> Iterator[str]:
    for number, (term, meaning) in enumerate(entries):
        if not number:
            yield f".SH {heading}"
        yield ".TP"
        yield f".B {_escaped(term)}"
        yield _text(meaning)


def _see_also(words: Sequence[str], below: dict[str, Any]) -> Iterator[str]:
    names = ["-".join(words[:-1])] if len(words) > 1 else []
    names += ["-".join([*words, name]) for name in below]
    if names:
        yield ".SH SEE ALSO"
        yield " ,\n".join(f".BR {_escaped(name)} ({_SECTION})" for name in names)


def _paragraphs(text: str | None) -> list[str]:
    """The paragraphs of a help text, each as one line; its first one is the summary."""
    return [" ".join(paragraph.split()) for paragraph in (text or "").split("\n\n") if paragraph.strip()] or [""]


def _text(line: str) -> str:
    """A line of text; an empty one would be a fault in man(7)."""
    return _escaped(line) or "\\&"


def _escaped(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
