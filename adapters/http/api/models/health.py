"""Models of the health checks."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from adapters.http.api.models.common import with_example


class Health(BaseModel):
    """`ok` if the process does its work, `ready` if a token could be stored now."""

    model_config = with_example(status="ok")
    status: Literal["ok", "ready"]
