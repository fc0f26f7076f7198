"""Answers outside the API that no route gives: a page says that there is none.

Under `/api` and at the other addresses for programs an error is a problem document (`adapters.http.problems`).
"""

from __future__ import annotations

from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from adapters.http.problems import HTTPError, problem
from adapters.http.session_cookie import browser_session
from adapters.http.web.page_route import PageRequest, to_sign_in
from adapters.http.web.texts import text

_FOR_PROGRAMS = ("/api", "/healthz", "/readyz", "/metrics", "/static")
_NO_PAGE = (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)


def install(app: FastAPI) -> None:
    """Answer with a page where a person looks for one."""
    app.add_exception_handler(HTTPException, _answer)


def _answer(request: Request, error: Exception) -> Response:
    path = request.url.path
    is_for_programs = any(path == root or path.startswith(f"{root}/") for root in _FOR_PROGRAMS)
    if is_for_programs or not _is_of_no_page(error):
        return problem(error)
    session = browser_session(request)
    if session is None:
        return to_sign_in(request)
    return PageRequest(request, session).render(
        "error.html",
        status=HTTPStatus.NOT_FOUND,
        title=text("error.404"),
        sentence=text("error.no_page", path=path),
        back="/home",
    )


def _is_of_no_page(error: Exception) -> bool:
    return isinstance(error, HTTPException) and not isinstance(error, HTTPError) and error.status_code in _NO_PAGE
