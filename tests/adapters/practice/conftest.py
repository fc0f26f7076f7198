from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from practice_faults.mail_server import FaultyMailServer
from practice_faults.provider import DEVICE_CODE_GRANT, FaultyProvider

from adapters.practice import browser_user
from adapters.practice.ca import PracticeCA

SCAN = "scan@contoso.com"
SCOPE = "openid profile email offline_access mail"


@pytest.fixture(scope="session")
def ca(tmp_path_factory: pytest.TempPathFactory) -> PracticeCA:
    return PracticeCA.create(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def provider(ca: PracticeCA) -> Iterator[FaultyProvider]:
    with FaultyProvider(ca, interval=1) as provider:
        yield provider


@pytest.fixture
def mail(ca: PracticeCA, provider: FaultyProvider) -> Iterator[FaultyMailServer]:
    with FaultyMailServer(ca, provider, shared={"scanner@contoso.com": {"scan@contoso.com"}}) as mail:
        yield mail


@pytest.fixture
def http(ca: PracticeCA) -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        session.verify = str(ca.ca_file)
        yield session


@pytest.fixture
def ask_device(http: requests.Session) -> Callable[[FaultyProvider], dict[str, Any]]:
    """Begin a device authorization, and return the reply."""

    def ask(provider: FaultyProvider) -> dict[str, Any]:
        data = {"client_id": provider.client_id, "scope": SCOPE}
        answer = http.post(f"{provider.issuer}/oauth2/devicecode", data=data, timeout=60)
        reply: dict[str, Any] = answer.json()
        return reply

    return ask


@pytest.fixture
def poll(http: requests.Session) -> Callable[..., requests.Response]:
    """Ask the token endpoint once for what a device code is worth by now."""

    def ask(provider: FaultyProvider, device: dict[str, Any]) -> requests.Response:
        data = {
            "client_id": provider.client_id,
            "grant_type": DEVICE_CODE_GRANT,
            "device_code": device["device_code"],
        }
        return http.post(f"{provider.issuer}/oauth2/token", data=data, timeout=60)

    return ask


@pytest.fixture
def refresh(http: requests.Session) -> Callable[..., requests.Response]:
    """Send a refresh token to the token endpoint."""

    def send(provider: FaultyProvider, refresh_token: str, **more: Any) -> requests.Response:
        data = {
            "client_id": provider.client_id,
            "grant_type": "refresh_token",
            "refresh_token": refresh_token,
        }
        return http.post(f"{provider.issuer}/oauth2/token", data=data, **{"timeout": 5, **more})

    return send


@pytest.fixture
def sign_in(
    ca: PracticeCA,
    ask_device: Callable[[FaultyProvider], dict[str, Any]],
    poll: Callable[..., requests.Response],
) -> Callable[..., dict[str, Any]]:
    """Obtain tokens by a device code, and return the reply."""

    def obtain(provider: FaultyProvider, account: str = SCAN) -> dict[str, Any]:
        device = ask_device(provider)
        browser_user.approve(device["verification_uri"], device["user_code"], account, ca.ca_file)
        reply: dict[str, Any] = poll(provider, device).json()
        return reply

    return obtain
