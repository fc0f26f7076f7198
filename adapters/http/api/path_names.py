"""The names in a path: a profile by its machine and setting, everything else by its own name."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path

from adapters.http.api.models.common import Text

Name = Annotated[Text, Path(examples=["office-mfp"])]


# Asynchronous, though it waits for nothing, because the framework would run it in a thread otherwise.
async def _profile(
    machine: Annotated[Text, Path(examples=["office-mfp"])],
    setting: Annotated[Text, Path(examples=["smtp-service"])],
) -> str:
    return f"{machine}/{setting}"


ProfileName = Annotated[str, Depends(_profile)]
"""The name `machine/setting`, from a path with `{machine}/{setting}`."""
