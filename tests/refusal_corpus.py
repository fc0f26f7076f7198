"""The corpus of refusals, `refusals.jsonl`: each is one line with the reply, its class, and the party that can mend it.

`python tests/refusal_corpus.py` writes the page "What this error means" from it. A refusal from the field is a new line
of the corpus; wording and personal details are replaced.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.mail.refusals import receiving_refusal, smtp_refusal
from adapters.providers.error_table import OAuthError, Rule, Verdict, read_error
from adapters.texts.reasons import why
from adapters.texts.verdicts import VERDICTS
from adapters.texts.wording import Surface
from domain.mail_report import Fault
from domain.outcomes import Reason

CORPUS = Path(__file__).with_name("refusals.jsonl")
PAGE = Path(__file__).parent.parent / "docs" / "what-this-error-means.md"

NOBODY, PERSON = "nobody: wait", "the person who signs in"
PROVIDER, OPERATOR = "the provider's administrator", "the operator of Mailtoken"
MAILBOX, SENDER = "the mailbox's administrator", "the sender of the message"
_OF_REASONS: Mapping[Reason, str] = {
    Reason.ACCOUNT_NOT_AVAILABLE: PROVIDER,
    Reason.POLICY: PROVIDER,
    Reason.CONSENT_REQUIRED: PROVIDER,
}
_OF_FAULTS: Mapping[Fault, str] = {
    Fault.SERVER: NOBODY,
    Fault.CONFIGURATION: OPERATOR,
    Fault.TOKEN: PERSON,
    Fault.MAILBOX: MAILBOX,
    Fault.PERMISSION: MAILBOX,
    Fault.SENDER: SENDER,
    Fault.MESSAGE: SENDER,
}
_OF_VERDICTS: Mapping[str, str] = {
    "token_about_to_expire": OPERATOR,
    "refused_by_server": MAILBOX,
    "message_refused": MAILBOX,
}
"""The verdicts that another party can mend than their fault says."""
_SENTENCES: Mapping[Verdict, str] = {
    Verdict.PENDING: "Nobody has signed in yet: Mailtoken asks again by itself.",
    Verdict.SLOW_DOWN: "The provider wants to be asked less often: Mailtoken does so.",
    Verdict.TRANSIENT: "The provider can't answer now: Mailtoken tries again, and the token is unchanged.",
}
_HEADER = """\
# What this error means

The refusals of providers and mail servers that Mailtoken knows: what each is for a token, who can mend it, and the
sentence that Mailtoken shows. `tests/refusals.jsonl` has the replies. `errors` of a provider in the configuration gives
a code another class.
"""


@dataclass(frozen=True)
class Meaning:
    """What a refusal means: its code, its class, the party that can mend it, and the sentence on the command line."""

    code: str
    kind: str
    who: str
    sentence: str


def refusals() -> list[dict[str, Any]]:
    """The refusals of the corpus, in its order."""
    return [json.loads(line) for line in CORPUS.read_text().splitlines()]


def meaning_of(refusal: Mapping[str, Any]) -> Meaning:
    """The meaning that the program gives to the reply of a refusal."""
    reply = refusal["reply"]
    if isinstance(reply, str):
        return _of_mail_server(refusal["step"], reply)
    error = read_error(reply)
    assert error is not None
    return _of_provider(error, refusal["status"])


def _of_provider(error: OAuthError, status: int) -> Meaning:
    if status >= 500 or status in {408, 429}:
        # Whatever the reply says, the provider has trouble of its own.
        return Meaning(error.code, "transient", NOBODY, _SENTENCES[Verdict.TRANSIENT])
    rule = error.rule
    kind = " ".join(filter(None, [rule.verdict.name.lower(), rule.reason and rule.reason.value, rule.setting]))
    return Meaning(error.code, kind, _mended_by(rule), _SENTENCES.get(rule.verdict) or _sentence(error))


def _mended_by(rule: Rule) -> str:
    match rule.verdict:
        case Verdict.TRANSIENT | Verdict.SLOW_DOWN:
            return NOBODY
        case Verdict.CLIENT_FAULT | Verdict.CONFIGURATION | Verdict.UNKNOWN:
            return OPERATOR
        case Verdict.PENDING | Verdict.ATTEMPT_OVER | Verdict.GRANT_DEAD:
            return _OF_REASONS.get(rule.reason, PERSON) if rule.reason else PERSON


def _sentence(error: OAuthError) -> str:
    match error.rule.verdict:
        case Verdict.CLIENT_FAULT:
            status = {"attention": "client_registration", "attention_code": error.code}
        case Verdict.UNKNOWN:
            status = {"attention": "unknown_error", "attention_code": error.code}
        case Verdict.CONFIGURATION:
            status = {"reason": Reason.CONFIGURATION.value, "code": error.code}
        case _:
            assert error.rule.reason
            reason = error.rule.reason.value
            status = {"attention": reason, "reason": reason, "code": error.code}
    return why(status, Surface.COMMAND) or ""


def _of_mail_server(step: str, reply: str) -> Meaning:
    if smtp := re.fullmatch(r"(\d{3}) (?:(\d\.\d+\.\d+) )?(.*)", reply):
        code = f"{smtp[1]} {smtp[2] or ''}".rstrip()
        verdict = smtp_refusal(step, int(smtp[1]), smtp[2] or "", smtp[3])
    else:
        bracketed = re.search(r"\[([A-Z/-]+)\]", reply)
        code = bracketed[0] if bracketed else reply.split(maxsplit=1)[0]
        verdict = receiving_refusal(step, bracketed[1] if bracketed else "")
    text = VERDICTS[verdict.code]
    sentence = f"{text.fact}: {text.next_step(Surface.COMMAND)}." if text.next_step(Surface.COMMAND) else text.fact
    return Meaning(code, verdict.code, _OF_VERDICTS.get(verdict.code, _OF_FAULTS[verdict.fault]), sentence)


def page() -> str:
    """The page: a table for each provider and mail server."""
    parts, known = [_HEADER], refusals()
    for origin in dict.fromkeys(refusal["from"] for refusal in known):
        parts.append(f"\n## {origin}\n\n| error | its own words | class | who can mend it | what Mailtoken says |\n")
        parts.append("|---|---|---|---|---|\n")
        parts += [_row(refusal) for refusal in known if refusal["from"] == origin]
    return "".join(parts)


def _row(refusal: Mapping[str, Any]) -> str:
    meaning, reply = meaning_of(refusal), refusal["reply"]
    words = reply if isinstance(reply, str) else reply.get("error_description", "")
    error = (
        meaning.code
        if isinstance(reply, str)
        else f"{reply['error']} {meaning.code}".removesuffix(f" {reply['error']}")
    )
    cells = (f"`{error}`", words, meaning.kind, meaning.who, meaning.sentence)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


if __name__ == "__main__":
    PAGE.write_text(page())
