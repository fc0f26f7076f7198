"""The pictures. `lifecycle.md` is generated from the state machine, so it shows what the service does.

`acquisition.md` is drawn by hand: the way of one acquisition through the rooms, and what a restart does at each point.
"""

from __future__ import annotations

import re
from pathlib import Path

from domain.lifecycle import TokenLifecycle

_LIFECYCLE = """\
# The life of a token

Generated from `domain/lifecycle.py` by `make diagrams`; a test fails when it is not current.

What leads nowhere from a state is refused, or is the late reply to something that is over. While a token is Waiting,
what it held before stays in the vault: nothing, a live credential or a dead one. The label in brackets says which.

```mermaid
{diagram}
```

{table}
"""


def lifecycle() -> str:
    """The text of `lifecycle.md`, as the state machine is now."""
    return _LIFECYCLE.format(
        diagram=_readable(f"{TokenLifecycle:mermaid}").rstrip(),
        table=_readable(f"{TokenLifecycle:md}").rstrip(),
    )


def regenerate(directory: Path) -> None:
    """Write the generated pictures into `directory`."""
    (directory / "lifecycle.md").write_text(lifecycle(), encoding="utf-8")


def _readable(text: str) -> str:
    """Guards as words. Each is as long as its name, so the columns of the table stay in line."""
    return re.sub(r"\bheld_(?=nothing|live|dead)", "held ", text.replace("!held_nothing", "anything held"))
