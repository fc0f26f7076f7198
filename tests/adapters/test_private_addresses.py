"""The addresses that are not public, and the rule for a provider's endpoints at them."""

from __future__ import annotations

import pytest

from adapters.private_addresses import AddressRule, Network, network_of

METADATA = "169.254.169.254"


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("127.0.0.1", Network.LOOPBACK),
        ("127.8.8.8", Network.LOOPBACK),
        ("::1", Network.LOOPBACK),
        ("::ffff:127.0.0.1", Network.LOOPBACK),
        ("10.1.2.3", Network.PRIVATE),
        ("172.16.0.1", Network.PRIVATE),
        ("192.168.0.1", Network.PRIVATE),
        ("fd00:ec2::254", Network.PRIVATE),
        ("::ffff:10.0.0.1", Network.PRIVATE),
        ("64:ff9b::a00:1", Network.PRIVATE),
        ("2002:a00:1::", Network.PRIVATE),
        (METADATA, Network.OTHER),
        (f"::ffff:{METADATA}", Network.OTHER),
        ("64:ff9b::a9fe:a9fe", Network.OTHER),
        ("168.63.129.16", Network.OTHER),
        ("100.100.100.200", Network.OTHER),
        ("fe80::1%eth0", Network.OTHER),
        ("0.0.0.0", Network.OTHER),
        ("::", Network.OTHER),
        ("224.0.1.1", Network.OTHER),
        ("255.255.255.255", Network.OTHER),
        ("no address", Network.OTHER),
        ("20.190.159.1", None),
        ("2603:1006:2000::1", None),
        ("64:ff9b::14be:9f01", None),
    ],
)
def test_each_address_is_on_a_kind_of_network(address: str, network: Network | None) -> None:
    assert network_of(address) == network


def test_a_host_that_is_not_configured_must_be_at_a_public_address() -> None:
    rule = AddressRule("login.contoso.com", ["keys.contoso.com", "10.0.0.9", "[fd00::9]"])
    assert rule.permitted("attacker.example", ["10.0.0.1", "20.190.159.1", METADATA]) == ["20.190.159.1"]
    assert rule.permitted("login.contoso.com", ["10.0.0.1"]) == ["10.0.0.1"]
    assert rule.permitted("KEYS.contoso.com.", ["127.0.0.1"]) == ["127.0.0.1"]
    assert rule.permits_name("10.0.0.9")
    assert rule.permits_name("fd00::9")
    assert rule.permits_name("attacker.example")
    for name in ("10.0.0.1", METADATA, "::1", "localhost", "LOCALHOST.", "idp.localhost"):
        assert not rule.permits_name(name)


def test_an_authority_that_is_itself_private_permits_hosts_on_its_kind_of_network_alone() -> None:
    rule = AddressRule("localhost")
    rule.reached("attacker.example", "10.0.0.1")
    assert not rule.permits_name("127.0.0.1")
    rule.reached("localhost", "127.0.0.1")
    assert rule.permits_name("127.0.0.1")
    assert rule.permitted("other.example", ["127.0.0.1", "10.0.0.1", METADATA]) == ["127.0.0.1"]


def test_no_authority_permits_link_local_addresses_to_others() -> None:
    rule = AddressRule("odd.example")
    rule.reached("odd.example", METADATA)
    assert not rule.permits_name(METADATA)
