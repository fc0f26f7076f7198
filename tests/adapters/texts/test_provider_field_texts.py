"""Every field and secret of a stored provider has its texts."""

from __future__ import annotations

from adapters.texts.provider_fields import (
    PROVIDER_FIELD_TEXTS,
    PROVIDER_SECRET_TEXTS,
    provider_accepted,
    provider_label,
)
from domain.provider_fields import PROVIDER_FIELDS, PROVIDER_SECRETS


def test_every_field_and_every_secret_has_a_text() -> None:
    assert set(PROVIDER_FIELD_TEXTS) == set(PROVIDER_FIELDS)
    assert set(PROVIDER_SECRET_TEXTS) == set(PROVIDER_SECRETS)


def test_a_range_and_a_unit_are_said() -> None:
    assert (provider_label("timeout"), provider_accepted("timeout")) == ("Timeout (seconds)", "1 to 120 seconds")
    assert (provider_accepted("revokes_one_grant"), provider_accepted("tenant")) == ("yes, no", None)
