"""The role that each action of a job needs: that of the same action at a single setting."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from adapters.http.principal import ADMINISTRATOR, OPERATOR
from infrastructure.jobs.job import Action

ACTION_ROLES: Mapping[Action, str] = MappingProxyType(
    {
        Action.GET_TOKEN: OPERATOR,
        Action.RENEW: OPERATOR,
        Action.TEST: OPERATOR,
        Action.DELETE: OPERATOR,
        Action.SET: ADMINISTRATOR,
        Action.LINK: ADMINISTRATOR,
        Action.TAG: ADMINISTRATOR,
        Action.REMOVE_MACHINE: ADMINISTRATOR,
    }
)
JOB_ROLES = (OPERATOR, ADMINISTRATOR)
"""Who may begin a job at all."""
