"""The set-up steps and remedies hold the real ids, as far as they are known, in the words of each surface."""

from __future__ import annotations

from collections.abc import Mapping
from string import Formatter

import pytest

from adapters.providers import ProviderSettings
from adapters.providers.error_table import AADSTS, OAUTH_ERRORS, SUBERRORS, read_error
from adapters.providers.kinds import KINDS, preset_of
from adapters.providers.registration_check import refusal_remedy
from adapters.texts import provider_check
from adapters.texts.provider_check import _REMEDIES, _STEPS, _filled, finding_text, remedy_text, step_text
from adapters.texts.provider_place import SLOTS
from adapters.texts.wording import Surface
from domain.secret import Secret

CLIENT_ID = "8f3c1d1e-0b52-4f0a-9a3e-2f6f2f1f7c11"
CONTOSO = ProviderSettings("contoso", "microsoft", CLIENT_ID, tenant="contoso.com")
GOOGLE = ProviderSettings("google", "google", "id.apps.googleusercontent.com")
OIDC = ProviderSettings("corner", "oidc", "our-client", issuer="https://login.example.com", scopes=("mail",))
CONSENT = f"https://login.microsoftonline.com/contoso.com/adminconsent?client_id={CLIENT_ID}"


def steps(settings: ProviderSettings, *accounts: str, surface: Surface = Surface.COMMAND) -> str:
    made = preset_of(settings).setup_steps(
        settings, accounts, ["http://localhost"], is_public=not settings.client_secrets
    )
    return "\n".join(step_text(step.code, step.fields, surface) for step in made)


def remedy(settings: ProviderSettings, document: dict[str, object]) -> str:
    error = read_error(document)
    assert error
    code, fields = refusal_remedy(settings, error)
    return remedy_text(code, fields, Surface.COMMAND)


def test_microsofts_steps_can_be_pasted() -> None:
    text = steps(CONTOSO, "scan@contoso.com", "fax@contoso.com")
    for line in (
        f"New-ServicePrincipal -AppId '{CLIENT_ID}' -ObjectId '<object id of the Enterprise Application>'",
        "Connect-ExchangeOnline -Organization contoso.com",
        "Add-MailboxPermission -Identity 'fax@contoso.com' -User '<object id of the Enterprise Application>'"
        " -AccessRights FullAccess",
        "Set-CASMailbox 'scan@contoso.com' -SmtpClientAuthenticationDisabled $false",
        "Allow public client flows: Yes",
        "SMTP.SendAsApp for SMTP, POP.AccessAsApp for POP, IMAP.AccessAsApp for IMAP",
        "redirect URI http://localhost",
        CONSENT,
    ):
        assert line in text


def test_without_accounts_a_place_is_left_for_them() -> None:
    assert "Set-CASMailbox '<mailbox>' -SmtpClientAuthenticationDisabled $false" in steps(CONTOSO)


@pytest.mark.parametrize("apostrophe", ["'", "\u2019"])
def test_an_apostrophe_in_an_address_ends_no_quotation(apostrophe: str) -> None:
    text = steps(CONTOSO, f"o{apostrophe}brien@contoso.com; Remove-Mailbox x")
    assert f"Set-CASMailbox 'o{apostrophe * 2}brien@contoso.com; Remove-Mailbox x' -Smtp" in text


def test_googles_steps_name_what_ends_authorizations_early() -> None:
    text = steps(GOOGLE)
    assert "7 days" in text
    assert "https://mail.google.com/" in text
    assert "Desktop app" in text
    assert "POP and IMAP" in text


def test_the_generic_steps_name_client_scopes_and_claims() -> None:
    text = steps(OIDC)
    assert "our-client as a public client of https://login.example.com" in text
    assert "openid email offline_access mail" in text
    assert "preferred_username, email, upn" in text
    confidential = ProviderSettings(
        "c", "oidc", "our-client", client_secrets=(Secret("hunter2"),), issuer="https://login.example.com"
    )
    assert "as a confidential client" in steps(confidential)
    assert "hunter2" not in steps(confidential)


def test_the_consent_link_is_the_tenants_own() -> None:
    assert preset_of(CONTOSO).consent_link(CONTOSO) == CONSENT
    anybodys = ProviderSettings("c", "microsoft", "a client & more", tenant="common")
    assert preset_of(anybodys).consent_link(anybodys) == (
        "https://login.microsoftonline.com/organizations/adminconsent?client_id=a%20client%20%26%20more"
    )


@pytest.mark.parametrize("number", [65001, 90094, 90095, 650052, 700016])
def test_who_lacks_consent_gets_the_link(number: int) -> None:
    assert CONSENT in remedy(CONTOSO, {"error": "invalid_grant", "error_codes": [number]})


@pytest.mark.parametrize("settings", [CONTOSO, GOOGLE, OIDC])
def test_every_error_of_the_tables_has_a_remedy(settings: ProviderSettings) -> None:
    documents: list[dict[str, object]] = [{"error": code} for code in OAUTH_ERRORS]
    documents += [{"error": "invalid_grant", "suberror": code} for code in SUBERRORS]
    documents += [{"error": "invalid_grant", "error_codes": [number]} for number in AADSTS]
    for document in documents:
        said = remedy(settings, document)
        assert " " in said, "a sentence, not a code"
        assert "{" not in said
        assert "None" not in said


def test_every_finding_that_cant_be_seen_has_its_text_and_remedy() -> None:
    for preset in KINDS.values():
        for code in (preset.sign_in_policy, *([preset.device_flow_refusal] if preset.device_flow_refusal else [])):
            assert " " in finding_text(code, {}, Surface.COMMAND)
        assert " " in remedy_text(f"{preset.sign_in_policy}_remedy", {}, Surface.COMMAND)


@pytest.mark.parametrize("surface", [Surface.PAGE, Surface.API])
def test_only_the_command_line_names_an_option(surface: Surface) -> None:
    tables = (provider_check._FINDINGS, provider_check._REMEDIES, provider_check._STEPS)
    texts = [text for table in tables for text in table.values()]
    words = provider_check._FLOWS[surface]
    assert not [text for text in (*texts, *words.values()) if "--" in text or "mailtoken" in text]
    assert "--flow browser" in steps(CONTOSO)
    assert "the browser flow" in steps(CONTOSO, surface=surface)


@pytest.mark.parametrize("surface", Surface)
@pytest.mark.parametrize("texts", [_REMEDIES, _STEPS])
def test_no_file_is_named_for_a_provider_that_has_none(texts: Mapping[str, str], surface: Surface) -> None:
    for code, text in texts.items():
        names = [name for _, name, _, _ in Formatter().parse(text) if name]
        fields = {**dict.fromkeys(names, "-"), "provider": "own"}
        given = {name: value for name, value in fields.items() if f"{{{name}}}" not in SLOTS}
        of_file, stored = (_filled(texts, code, {**given, **more}, surface) for more in ({}, {"stored": True}))
        assert "{" not in of_file + stored
        assert "_file" not in stored.replace("ca_file of [stored_providers]", "")
