"""Which role may use which route: all routes of the API are in this table."""

from __future__ import annotations

from adapters.http.principal import ADMINISTRATOR, AUDITOR, CLIENT, OPERATOR, RELAY

ALL = frozenset({ADMINISTRATOR, OPERATOR, AUDITOR, CLIENT, RELAY, "nobody"})
READERS = frozenset({ADMINISTRATOR, OPERATOR, AUDITOR})
SEES_CLIENTS = frozenset({ADMINISTRATOR, AUDITOR})
CONFIGURES, OPERATES, AUDITS = frozenset({ADMINISTRATOR}), frozenset({OPERATOR}), frozenset({AUDITOR})
READS_TOKENS, RELAYS = frozenset({CLIENT}), frozenset({RELAY})

PROFILE = "/api/v1/profiles/{machine}/{setting}"
PERMITTED_ROLES = {
    ("GET", "/healthz"): ALL,
    ("GET", "/readyz"): ALL,
    ("GET", "/metrics"): AUDITS,
    ("GET", "/api/v1/machines"): READERS,
    ("POST", "/api/v1/machines"): CONFIGURES,
    ("DELETE", "/api/v1/machines/{name}"): CONFIGURES,
    ("POST", "/api/v1/machines/{name}/rename"): CONFIGURES,
    ("POST", "/api/v1/providers/{name}/rename"): CONFIGURES,
    ("GET", "/api/v1/catalogues"): READERS,
    ("GET", "/api/v1/profiles"): READERS,
    ("GET", PROFILE): READERS,
    ("PATCH", PROFILE): CONFIGURES,
    ("DELETE", PROFILE): CONFIGURES,
    ("GET", "/api/v1/groups"): READERS,
    ("POST", "/api/v1/groups/{name}/profiles"): CONFIGURES,
    ("DELETE", f"{PROFILE}/group"): CONFIGURES,
    ("GET", "/api/v1/providers"): READERS,
    ("POST", "/api/v1/providers/{name}/check"): OPERATES,
    ("GET", "/api/v1/status"): READERS,
    ("GET", "/api/v1/store"): READERS,
    ("POST", "/api/v1/store/resume"): CONFIGURES,
    ("GET", f"{PROFILE}/status"): READERS,
    ("GET", "/api/v1/events"): READERS,
    ("POST", f"{PROFILE}/token"): OPERATES,
    ("DELETE", f"{PROFILE}/token"): OPERATES,
    ("GET", f"{PROFILE}/token/attempt"): OPERATES,
    ("POST", f"{PROFILE}/token/redirect"): OPERATES,
    ("GET", f"{PROFILE}/token/deletion"): OPERATES,
    ("POST", f"{PROFILE}/token/renew"): OPERATES,
    ("POST", f"{PROFILE}/token/cancel"): OPERATES,
    ("GET", f"{PROFILE}/access-token"): READS_TOKENS,
    ("POST", f"{PROFILE}/test"): OPERATES,
    ("GET", "/api/v1/mail-counts"): READERS,
    ("GET", "/api/v1/send"): READS_TOKENS,
    ("POST", "/api/v1/send"): READS_TOKENS,
    ("GET", "/api/v1/audit/log"): AUDITS,
    ("GET", "/api/v1/export"): SEES_CLIENTS,
    ("POST", "/api/v1/apply"): CONFIGURES,
    ("GET", "/api/v1/relay/users"): CONFIGURES,
    ("POST", "/api/v1/relay/users"): CONFIGURES,
    ("DELETE", "/api/v1/relay/users/{name}"): CONFIGURES,
    ("PUT", "/api/v1/relay/users/{name}/password"): CONFIGURES,
    ("PUT", "/api/v1/relay/users/{name}/profiles"): CONFIGURES,
    ("PUT", "/api/v1/relay/users/{name}/networks"): CONFIGURES,
    ("PATCH", "/api/v1/relay/users/{name}/messages"): CONFIGURES,
    ("GET", "/api/v1/relay/refusals"): CONFIGURES,
    ("POST", "/api/v1/relay/refusals"): RELAYS,
    ("POST", "/api/v1/relay/admissions"): RELAYS,
    ("POST", "/api/v1/relay/renewals"): RELAYS,
    ("GET", "/api/v1/relay/servers"): RELAYS,
    ("PUT", "/api/v1/relay/mail-counts/{name}"): RELAYS,
    ("GET", "/api/v1/relay/changes"): RELAYS,
    ("GET", "/api/v1/administrators"): SEES_CLIENTS,
    ("POST", "/api/v1/administrators"): CONFIGURES,
    ("POST", "/api/v1/administrators/link"): CONFIGURES,
    ("PUT", "/api/v1/administrators/{name}/roles"): CONFIGURES,
    ("PUT", "/api/v1/administrators/{name}/password"): CONFIGURES,
    ("DELETE", "/api/v1/administrators/{name}"): CONFIGURES,
    ("GET", "/api/v1/clients"): SEES_CLIENTS,
    ("POST", "/api/v1/clients"): CONFIGURES,
    ("POST", "/api/v1/clients/{name}/key"): CONFIGURES,
    ("POST", "/api/v1/clients/{name}/grants"): CONFIGURES,
    ("POST", "/api/v1/clients/{name}/revocations"): CONFIGURES,
    ("DELETE", "/api/v1/clients/{name}"): CONFIGURES,
}
