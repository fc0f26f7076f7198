"""A service with its pages on a port of this machine, a provider and a mail server beside it, all of them real."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from listeners import listen_at, serve_tcp
from ports import free_port
from practice_faults.provider import FaultyProvider
from waiting import wait_until

from adapters.bootstrap import open_service
from adapters.installation import initialise
from adapters.practice import browser_user
from adapters.practice.ca import PracticeCA
from adapters.practice.mail_server import PracticeMailServer
from domain.administrator import ROLES
from domain.lifecycle import TokenStatus
from domain.secret import Secret
from infrastructure.config.load import load_config
from infrastructure.service import Service

SCAN, FAX = "scan@contoso.com", "fax@contoso.com"
PASSWORD = Secret("correct horse battery")
PEOPLE = {"admin": ROLES, "anna": ("administrator",), "otto": ("operator",), "audrey": ("auditor",)}

_CONFIG = """
[providers.contoso]
kind = "oidc"
issuer = "{issuer}"
client_id = "{client_id}"
scopes = ["openid", "email", "offline_access", "mail"]
ca_file = "{ca_file}"

[providers.robot]
kind = "oidc"
issuer = "{issuer}"
client_id = "{robot}"
client_secret_file = ["old-secret", "new-secret"]
client_secret_expires = 2099-12-31
scopes = ["openid", "email", "offline_access"]
ca_file = "{ca_file}"

[mail]
ca_file = "{ca_file}"
"""


@dataclass
class InProcessService:
    """A service in this process that serves its pages, with the provider and the mail server it uses."""

    service: Service
    ca: PracticeCA
    provider: FaultyProvider
    mail: PracticeMailServer
    origin: str

    def add_printer(self, name: str, catalogue: str = "sharp-bp", account: str = SCAN) -> str:
        """A machine with its first SMTP and POP settings filled in; the name of the SMTP one."""
        names = self.service.settings.add_machine(name, catalogue, "administrator:admin")
        for setting in names:
            smtp = "/smtp" in setting
            port = self.mail.smtp_port if smtp else self.mail.pop_port
            fields = {"server": "localhost", "port": str(port), "provider": "contoso", "account": account}
            self.service.settings.set_profile(setting, fields, "administrator:admin")
        return names[0]

    def get_token(self, name: str, account: str = SCAN) -> None:
        """Get the token of a setting; its person approves at the provider."""
        started = self.service.tokens.request(name, "device", "operator:otto")
        assert started.verification_uri
        assert started.user_code
        browser_user.approve(started.verification_uri, started.user_code, account, self.ca.ca_file)
        self.service.polling_worker.wake()
        wait_until(
            lambda: self.service.tokens.status(name).token.status is TokenStatus.RETRIEVED, f"the token of {name}"
        )


@contextmanager
def in_process_service(directory: Path, text: str = _CONFIG) -> Iterator[InProcessService]:
    """A service in this process on a new directory; its pages are served until the context ends."""
    ca = PracticeCA.create(directory / "ca")
    with FaultyProvider(ca, interval=1) as provider, PracticeMailServer(ca, provider) as mail:
        made = initialise(directory / "house")
        with made.config.open("a") as config:
            config.write(
                text.format(
                    issuer=provider.issuer,
                    client_id=provider.client_id,
                    robot=provider.confidential_client_id,
                    ca_file=ca.ca_file,
                )
            )
        (made.config.parent / "old-secret").write_text("expired-last-year")
        (made.config.parent / "new-secret").write_text(provider.client_secret)
        listen_at(made.config, free_port())
        with open_service(load_config(made.config)) as service:
            service.polling_worker.start()
            for name, roles in PEOPLE.items():
                service.administrators.add(name, roles, PASSWORD, "service")
            try:
                with serve_tcp(service) as port:
                    yield InProcessService(service, ca, provider, mail, f"http://localhost:{port}")
            finally:
                service.polling_worker.stop()
