"""Client authentication by certificate: `private_key_jwt` (RFC 7523, OpenID Connect Core section 9).

An assertion must be from the client that its certificate is registered for, and is valid for one request only.
"""

from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any

from authlib.oauth2.rfc6749 import InvalidClientError
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import GuestProtocol, RSAKey

from adapters.practice.registry import Client, ClientCertificate, Registry

METHOD = "private_key_jwt"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ALGORITHMS = ("RS256", "PS256")
LEEWAY_SECONDS = 60


class _LongHeaders(jws.JWSRegistry):
    """A registry with a larger limit for headers: msal sends the whole certificate, as `x5c`."""

    max_header_length = 8192


_JWS = _LongHeaders(algorithms=ALGORITHMS)


class ClientAssertions:
    """Authenticates a client by its certificate; `audiences` are the URLs that an assertion may be for."""

    def __init__(self, registry: Registry, audiences: Callable[[], list[str]]) -> None:
        self._registry = registry
        self._audiences = audiences

    def __call__(self, query_client: Callable[[str], Client | None], request: Any) -> Client | None:
        """Return the client, or None if the request has no assertion.

        Raises:
            InvalidClientError: the assertion is not valid.
        """
        if request.form.get("client_assertion_type") != ASSERTION_TYPE:
            return None
        try:
            token = jwt.decode(request.form.get("client_assertion", ""), self._key, registry=_JWS)
            client_id = self._certificate(token.header).client_id
            self._validate(token.claims, client_id)
        except JoseError as error:
            raise InvalidClientError(description=error.description or error.error) from None
        if request.payload.client_id not in {None, client_id}:
            raise InvalidClientError(description="The assertion is another client's.")
        if not self._registry.spend_assertion(client_id, token.claims["jti"]):
            raise InvalidClientError(description="The assertion was used before.")
        return query_client(client_id)

    def _key(self, assertion: GuestProtocol) -> RSAKey:
        public_key = self._certificate(assertion.headers()).certificate.public_key()
        assert isinstance(public_key, RSAPublicKey)
        return RSAKey.import_key(public_key)

    def _certificate(self, header: dict[str, Any]) -> ClientCertificate:
        # msal keeps the base64 padding, which RFC 7515 section 2 leaves out.
        found = self._registry.certificates.get(str(header.get("x5t#S256")).rstrip("="))
        if found is None or not found.is_valid(self._registry.now()):
            raise InvalidClientError(description="The assertion names no certificate that is registered and valid.")
        return found

    def _validate(self, claims: dict[str, Any], client_id: str) -> None:
        """Check the claims (RFC 7523 section 3)."""
        jwt.JWTClaimsRegistry(
            now=int(self._registry.now().timestamp()),
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": client_id},
            sub={"essential": True, "value": client_id},
            aud={"essential": True, "values": self._audiences()},
            exp={"essential": True},
            jti={"essential": True},
        ).validate(claims)


def thumbprint(certificate: x509.Certificate) -> str:
    """The certificate's `x5t#S256` (RFC 7515 section 4.1.8)."""
    return urlsafe_b64encode(certificate.fingerprint(SHA256())).rstrip(b"=").decode()
