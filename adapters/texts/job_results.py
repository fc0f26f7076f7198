"""The sentences of the refused steps of a job, by the code of an error, a reason or a verdict."""

from __future__ import annotations

from adapters.texts.errors import ERRORS, sentence
from adapters.texts.reasons import reason_text
from adapters.texts.verdicts import VERDICTS, verdict_sentence
from adapters.texts.wording import Surface
from infrastructure.jobs.job import Result

_OTHERS = {
    "step_failed": "It failed; the log of the service has the error.",
    "store_unreachable": "The store can't be reached now.",
    "another_sign_in": "Another sign-in was begun.",
}


def result_text(result: Result, surface: Surface) -> str | None:
    """Why the step was refused; None if it was not."""
    code = result.code
    if code is None:
        return None
    if code in _OTHERS:
        return _OTHERS[code]
    if code in ERRORS:
        return sentence(code, dict(result.facts), surface)
    if code in VERDICTS:
        return verdict_sentence(code, result.facts, surface)
    return reason_text(code, surface)
