"""A certificate needs a person from a month before its end."""

from datetime import UTC, datetime, timedelta

import pytest

from domain.store_attention import CertificateExpiry, StoreAttention

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
INSTANT = timedelta(microseconds=1)
MONTH = timedelta(days=30)


@pytest.mark.parametrize(
    ("lasts", "attention"),
    [
        (MONTH + INSTANT, None),
        (MONTH, StoreAttention.CERTIFICATE_ENDS),
        (INSTANT, StoreAttention.CERTIFICATE_ENDS),
        (timedelta(0), StoreAttention.CERTIFICATE_OVER),
        (-MONTH, StoreAttention.CERTIFICATE_OVER),
    ],
)
def test_a_certificate_needs_a_person_from_a_month_before_its_end(
    lasts: timedelta, attention: StoreAttention | None
) -> None:
    assert CertificateExpiry("[relay]", NOW + lasts).attention(NOW) is attention
