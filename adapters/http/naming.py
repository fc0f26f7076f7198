"""How things are named in a path: a profile by its machine and setting, everything else by its name."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path

from adapters.http.models import Text

Name = Annotated[Text, Path(examples=["office-mfp"])]


# Asynchronous, though it waits for nothing: the framework would have a thread run it otherwise.
async def _profile(
    machine: Annotated[Text, Path(examples=["office-mfp"])],
    setting: Annotated[Text, Path(examples=["smtp-service"])],
) -> str:
    return f"{machine}/{setting}"


ProfileName = Annotated[str, Depends(_profile)]
"""`machine/setting`, of a path with `{machine}/{setting}`."""
