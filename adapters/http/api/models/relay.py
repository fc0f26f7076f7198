"""Models of relay users, and of the requests of the relay; its replies are in `adapters.relay_documents`."""

from __future__ import annotations

from pydantic import BaseModel, Field, SecretStr

from adapters.http.api.models.common import Text, with_example
from adapters.relay_documents import RelayRefusal
from domain.catalogue import Protocol


class NewRelayUser(BaseModel):
    """A relay user to add, with a password, networks or both, and the profiles to send and receive as."""

    model_config = with_example(name="crm@contoso.com", profiles=["press/smtp"], password="correct horse battery")  # noqa: S106 - an example
    name: Text
    profiles: list[Text]
    networks: list[Text] = Field(default_factory=list)
    password: SecretStr | None = None


class RelayPassword(BaseModel):
    """The password of a relay user from now on."""

    model_config = with_example(password="correct horse battery")  # noqa: S106 - an example
    password: SecretStr


class RelayProfiles(BaseModel):
    """All profiles that a relay user sends and receives as: one for each protocol."""

    model_config = with_example(profiles=["press/smtp"])
    profiles: list[Text]


class RelayNetworks(BaseModel):
    """All networks from which a relay user needs no sign-in."""

    model_config = with_example(networks=["10.20.30.0/24", "2001:db8:1::/48"])
    networks: list[Text]


class RelayMessages(BaseModel):
    """What the relay changes in a user's messages; a member that is left out stays, and null ends the change.

    `sender` takes the place of the address in the envelope and in From; `normalize` "crlf" makes a CRLF of a bare line
    feed.
    """

    model_config = with_example(sender="scan@contoso.com", normalize="crlf")
    sender: Text | None = None
    normalize: Text | None = None


class RelaySignIn(BaseModel):
    """A sign-in of a client with the IP address `address`; if user and password are null, its network counts."""

    model_config = with_example(
        protocol="smtp",
        address="192.0.2.7",
        user="printers",
        password="correct horse battery",  # noqa: S106 - an example
    )
    protocol: Protocol
    address: str
    # Not Text: an impossible name is answered like every other wrong sign-in.
    user: str | None = None
    password: SecretStr | None = None


class RelayRejection(BaseModel):
    """A request for a newer token, after the mail server rejected the access token of this generation."""

    model_config = with_example(user="printers", protocol="smtp", profile="press/smtp", generation=1)
    user: str
    protocol: Protocol
    profile: str
    generation: int


class RelayUser(BaseModel):
    """A relay user. `password` is true if there is a password; clients in `networks` need none."""

    model_config = with_example(
        name="printers", profiles={"smtp": "press/smtp"}, networks=["10.20.30.0/24"], password=True
    )
    name: str
    profiles: dict[str, str]
    networks: list[str]
    password: bool
    sender: str | None = None
    normalize: str | None = None


class RefusalWithStep(RelayRefusal):
    """A refused client, and what its administrator can do: `step` says it in one sentence."""

    step: str
