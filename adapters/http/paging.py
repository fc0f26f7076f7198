"""Lists a page at a time: `limit` asks for a page, `after` is the cursor, and the header Link (RFC 8288) leads on.

Who names no limit gets the whole list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import Depends, Query, Request, Response

from adapters.http.models import PROFILE, Text

T = TypeVar("T")

Limit = Annotated[int | None, Query(ge=1, le=1000, description="How many at most; all without it.", examples=[100])]


@dataclass(frozen=True)
class Page:
    """What of a list is wanted: `limit` of it behind the name `after`."""

    request: Request
    limit: int | None
    after: str

    def of(
        self, response: Response, read: Callable[[str, int | None], Sequence[T]], name: Callable[[T], str]
    ) -> Sequence[T]:
        """The page; `read` gives the next ones behind a name, in the order of their names, at most so many."""
        # One more than is shown: whether there is a next page.
        found = read(self.after, self.limit and self.limit + 1)
        shown = found[: self.limit]
        if len(found) > len(shown):
            link_next(self.request, response, name(shown[-1]))
        return shown

    def of_all(self, response: Response, ordered: Iterable[T], name: Callable[[T], str]) -> Sequence[T]:
        """The page of a list that is in the order of its names."""
        return self.of(response, lambda after, _: [one for one in ordered if name(one) > after], name)


def link_next(request: Request, response: Response, after: str | int) -> None:
    """Say where the next page is."""
    url = request.url.include_query_params(after=after)
    response.headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'


def _of_names(
    request: Request,
    limit: Limit = None,
    after: Annotated[Text, Query(description="Behind the one of this name.", examples=[PROFILE])] = "",
) -> Page:
    return Page(request, limit, after)


OfNames = Annotated[Page, Depends(_of_names)]
