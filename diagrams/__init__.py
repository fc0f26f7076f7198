"""The pictures. `lifecycle.md` is generated from the state machine, so it shows what the service does.

`acquisition.md` is drawn by hand: the way of one acquisition through the rooms, and what a restart does at each point.
"""

from __future__ import annotations

import re
from pathlib import Path

from domain.lifecycle import PERMISSIONS, Held, TokenLifecycle, TokenStatus, target

_MEANINGS = {
    "change": "Change provider or account",
    "link": "Link into a group",
    "unlink": "Unlink from its group",
    "rename": "Rename machine or provider",
}

_LIFECYCLE = """\
# The life of a token

Generated from `domain/lifecycle.py` by `make diagrams`; a test fails when it is not current.

A command without an arrow from a state is refused there; a provider's reply without one came too late. While a token
is Waiting, the vault keeps what it held before: nothing, a live credential or a dead one. The label in brackets says
which. A token is Retired when the last setting that uses it is removed.

```mermaid
{diagram}
```

{table}

## What may be done with a setting

The state of a setting's token says what may be done with the setting; none of it changes the token. Without a "yes" it
is refused.

{permissions}
"""


def lifecycle() -> str:
    """The text of `lifecycle.md`, as the state machine is now."""
    return _LIFECYCLE.format(
        diagram=_readable(f"{TokenLifecycle:mermaid}").rstrip(),
        table=_readable(f"{TokenLifecycle:md}").rstrip(),
        permissions=_permissions(),
    )


def _permissions() -> str:
    columns = [_MEANINGS[act] for act in PERMISSIONS]
    rows = [
        [status.value, *("yes" if target(status, act, Held.NOTHING) else "" for act in PERMISSIONS)]
        for status in TokenStatus
    ]
    widths = [max(map(len, column)) for column in zip(["State", *columns], *rows, strict=True)]
    lines = [["State", *columns], ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def regenerate(directory: Path) -> None:
    """Write the generated pictures into `directory`."""
    (directory / "lifecycle.md").write_text(lifecycle(), encoding="utf-8")


def _readable(text: str) -> str:
    """Guards as words. Each is as long as its name, so the columns of the table stay in line."""
    return re.sub(r"\bheld_(?=nothing|live|dead)", "held ", text.replace("!held_nothing", "anything held"))
