"""The certificate that clients of the relay and of the service see."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from adapters.practice.ca import PracticeCA
from adapters.tls_certificate import TLSCertificate
from domain.errors import InvalidValue


def test_it_is_for_tls_1_2_or_newer(tmp_path: Path) -> None:
    issued = PracticeCA.create(tmp_path).issue()
    context = TLSCertificate(issued.cert_file, issued.key_file, "[relay]").context()
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("table", ["[relay]", "[server]"])
def test_one_that_can_not_be_used_is_named(tmp_path: Path, table: str) -> None:
    ca = PracticeCA.create(tmp_path)
    issued, other = ca.issue(), ca.issue()
    missing = tmp_path / "no.crt"
    for certificate, key, code in (
        (missing, issued.key_file, "certificate_not_read"),
        (issued.cert_file, other.key_file, "certificate_not_of_key"),
    ):
        with pytest.raises(InvalidValue) as refused:
            TLSCertificate(certificate, key, table)
        assert (refused.value.field, refused.value.code) == (f"{table} certificate_file", code)
        assert (refused.value.fields["certificate_file"], refused.value.fields["key_file"]) == (
            str(certificate),
            str(key),
        )
