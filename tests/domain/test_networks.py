"""Networks and addresses of clients."""

from __future__ import annotations

import pytest

from domain.errors import InvalidValue
from domain.networks import read_address, read_networks


@pytest.mark.parametrize("network", ["10.0.0.0/8", "2001:db8::/32", "192.0.2.7/32"])
def test_a_network_may_be_as_wide_as_a_site(network: str) -> None:
    assert read_networks([network, network]) == (network,)


@pytest.mark.parametrize(("network", "widest"), [("10.0.0.0/7", 8), ("2001:db8::/31", 32), ("0.0.0.0/0", 8)])
def test_a_wider_network_is_refused(network: str, widest: int) -> None:
    with pytest.raises(InvalidValue) as refused:
        read_networks([network])
    assert (refused.value.field, refused.value.code) == ("network", "network_too_wide")
    assert (refused.value.fields["value"], refused.value.fields["widest"]) == (network, widest)


def test_what_is_no_address_is_refused_by_its_field() -> None:
    with pytest.raises(InvalidValue) as refused:
        read_address("localhost")
    assert (refused.value.field, refused.value.code) == ("address", "not_an_address")
