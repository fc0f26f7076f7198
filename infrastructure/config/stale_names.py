"""The keys of the configuration that still have the old name of a machine or a provider after it was renamed."""

from __future__ import annotations

from collections.abc import Iterable

from infrastructure.config.tables import Config


def names_of_machine(config: Config, machine: str) -> list[str]:
    """The keys that name a setting of this machine."""
    keys: list[tuple[str, Iterable[str | None]]] = [
        ("[send] profile", [config.send.profile]),
        ("[notify] mail_profile", [config.notify.mail_profile]),
        ("[[socket.grants]] profiles", [name for grant in config.socket.grants for name in grant.profiles]),
    ]
    return [key for key, names in keys if any(name and name.partition("/")[0] == machine for name in names)]


def names_of_provider(config: Config, provider: str) -> list[str]:
    """The keys that name this provider."""
    sign_in = config.server.sign_in
    return ["[server.sign_in] provider"] if sign_in and sign_in.provider == provider else []
