"""The mail server that a setting gets with its provider, on every surface."""

from __future__ import annotations

from dataclasses import replace

import pytest

from domain.catalogue import Protocol
from domain.lifecycle import TokenStatus
from domain.mail_servers import MAIL_SERVERS, with_server_of_provider
from domain.plan import (
    HeldToken,
    Present,
    PresentProfile,
    SetFields,
    Wanted,
    WantedMachine,
    WantedProvider,
    WantedSetting,
)
from domain.planner import plan
from domain.profile_fields import Settings

KINDS = {"fabrikam": "microsoft", "gmail": "google", "own": "oidc"}
PRESETS = [
    (name, protocol, one) for name, kind in KINDS.items() for protocol, one in MAIL_SERVERS.get(kind, {}).items()
]


@pytest.mark.parametrize(("provider", "protocol", "preset"), PRESETS)
def test_a_setting_without_a_server_gets_that_of_its_new_provider(provider: str, protocol: Protocol, preset) -> None:  # type: ignore[no-untyped-def]
    texts = {"provider": provider, "account": "scan@contoso.com"}
    assert with_server_of_provider(texts, protocol, Settings(), KINDS) == {**texts, **preset.texts}


@pytest.mark.parametrize(
    ("texts", "settings"),
    [
        ({"provider": "own"}, Settings()),
        ({"provider": ""}, Settings(provider="fabrikam")),
        ({"provider": "unknown"}, Settings()),
        ({"account": "scan@contoso.com"}, Settings()),
        ({"server": ""}, Settings(provider="fabrikam", server="mail.contoso.com")),
        ({"provider": "fabrikam", "server": ""}, Settings(provider="fabrikam")),
        ({"provider": "fabrikam"}, Settings(server="mail.contoso.com")),
        ({"provider": "fabrikam"}, Settings(port=1143)),
        ({"provider": "fabrikam", "server": "mail.contoso.com"}, Settings()),
        ({"provider": "fabrikam", "port": "1143"}, Settings()),
        ({"provider": "fabrikam", "tls": "starttls"}, Settings()),
    ],
)
def test_any_other_change_is_left_as_it_is(texts: dict[str, str], settings: Settings) -> None:
    assert with_server_of_provider(texts, Protocol.IMAP, settings, KINDS) == texts


@pytest.mark.parametrize("of_file", [True, False])
def test_a_plan_says_the_server_and_is_empty_once_it_is_carried_out(of_file: bool) -> None:
    wanted = Wanted(
        {"press": WantedMachine(None, {"imap": WantedSetting({"provider": "fabrikam"})})},
        providers={} if of_file else {"fabrikam": WantedProvider("microsoft", {"tenant": "a.com", "client_id": "b"})},
    )
    profile = PresentProfile(Protocol.IMAP, Settings(), "token")
    held = {"token": HeldToken(TokenStatus.NOT_RETRIEVED)}
    kinds = {"fabrikam": "microsoft"} if of_file else {}
    before = Present({"press": "generic"}, {"press/imap": profile}, held, {}, list(kinds), kinds=kinds)
    [change] = [one for one in plan(wanted, before).changes if isinstance(one, SetFields)]
    assert change.after == {
        "provider": "fabrikam",
        "server": "outlook.office365.com",
        "port": "993",
        "tls": "implicit",
    }
    settings = Settings(provider="fabrikam", server="outlook.office365.com", port=993, tls="implicit")
    after = replace(before, profiles={"press/imap": replace(profile, settings=settings)})
    assert not [one for one in plan(wanted, after).changes if isinstance(one, SetFields)]
