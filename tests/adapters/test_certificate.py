"""The certificate that clients of the relay and of the service see."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from adapters.certificate import Certificate
from adapters.practice.ca import PracticeCA
from domain.errors import InvalidValue


def test_it_is_for_tls_1_2_or_newer(tmp_path: Path) -> None:
    issued = PracticeCA.create(tmp_path).issue()
    context = Certificate(issued.cert_file, issued.key_file, "[relay]").context()
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("table", ["[relay]", "[server]"])
def test_one_that_can_not_be_used_is_named(tmp_path: Path, table: str) -> None:
    ca = PracticeCA.create(tmp_path)
    issued, other = ca.issue(), ca.issue()
    for certificate, key in ((tmp_path / "no.crt", issued.key_file), (issued.cert_file, other.key_file)):
        with pytest.raises(InvalidValue) as refused:
            Certificate(certificate, key, table)
        assert str(refused.value).startswith(f"{table} certificate_file: {certificate} with {key} can't be used: ")
