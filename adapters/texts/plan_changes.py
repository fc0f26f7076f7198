"""The sentences of the changes of a plan, as `apply` and the page Import show them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from adapters.texts.wording import Surface

_CHANGES: Mapping[str, str] = MappingProxyType(
    {
        "add provider": "+ provider {provider}, {kind}{awaited}",
        "set provider": "~ provider {provider}: {fields}{awaited}",
        "delete token": "- delete the token of {profile}{also}",
        "remove profile": "- setting {profile}",
        "tag machine": "~ machine {machine}: tags {tag_list}",
        "remove machine": "- machine {machine}",
        "add machine": "+ machine {machine}, catalogue {catalogue}",
        "add profile": "+ setting {profile}",
        "set fields": "~ {profile}: {fields}",
        "unlink": "~ {profile}: out of the group {group}, with a token of its own, Not Retrieved",
        "link": "~ {profile}: into the group {group}",
        "add client": "+ client {client}, without a key: {key_step}",
        "grant": "+ {client} may read the token of {profile}",
        "revoke": "- {client} may not read the token of {profile} any more",
    }
)


_KEY_STEP: Mapping[Surface, str] = MappingProxyType(
    {
        Surface.COMMAND: "mailtoken client key {client} makes one",
        Surface.PAGE: "make one at Clients",
    }
)
_UPLOAD_STEP: Mapping[Surface, str] = MappingProxyType(
    {
        Surface.COMMAND: "mailtoken provider set {provider}",
        Surface.PAGE: "upload it at Providers",
    }
)


def change_text(change: Mapping[str, Any], surface: Surface) -> str:
    """The sentence of a change, from its JSON. It begins with + for an addition, - for a removal, ~ for a change."""
    others = [name for name in change.get("profiles") or () if name != change["profile"]]
    before, after = change.get("before") or {}, change.get("after") or {}
    fields = (f"{field} {before.get(field) or '(empty)'} -> {text or '(empty)'}" for field, text in after.items())
    awaited = " and ".join(change.get("secrets") or ())
    facts = {
        **change,
        "also": f", which {', '.join(others)} lose too" if others else "",
        "fields": ", ".join(fields),
        "awaited": f", whose {awaited} is to be uploaded: {_UPLOAD_STEP[surface].format_map(change)}"
        if awaited
        else "",
        "key_step": _KEY_STEP[surface].format_map(change) if "client" in change else "",
        "tag_list": " ".join(change.get("tags") or ()) or "(none)",
    }
    text = _CHANGES.get(change["change"])
    return text.format_map(facts) if text else str(change["change"])
