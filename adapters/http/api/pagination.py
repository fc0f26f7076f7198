"""Lists a page at a time: `limit` asks for a page, `after` is the cursor, the header Link (RFC 8288) has the next page.

Without a limit the answer is the whole list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import Depends, Query, Request, Response

from adapters.http.api.models.common import PROFILE, Text

T = TypeVar("T")

Limit = Annotated[int | None, Query(ge=1, le=1000, description="The most to list; all without it.", examples=[100])]


@dataclass(frozen=True)
class Page:
    """The wanted part of a list: `limit` entries after the name `after`."""

    request: Request
    limit: int | None
    after: str

    @property
    def is_all(self) -> bool:
        """Whether the whole list is wanted."""
        return self.limit is None and not self.after

    def of(
        self, response: Response, read: Callable[[str, int | None], Sequence[T]], name: Callable[[T], str]
    ) -> Sequence[T]:
        """The page. `read` takes a name and a limit, and gives the entries after that name, in the order of names."""
        # One entry more than the page shows tells whether there is a next page.
        found = read(self.after, self.limit and self.limit + 1)
        page = found[: self.limit]
        if len(found) > len(page):
            link_next(self.request, response, name(page[-1]))
        return page

    def of_all(self, response: Response, ordered: Iterable[T], name: Callable[[T], str]) -> Sequence[T]:
        """The page of a list that is sorted by name."""
        return self.of(response, lambda after, _: [one for one in ordered if name(one) > after], name)


def link_next(request: Request, response: Response, after: str | int) -> None:
    """Put the address of the next page into the header Link."""
    url = request.url.include_query_params(after=after)
    response.headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'


def _of_names(
    request: Request,
    limit: Limit = None,
    after: Annotated[Text, Query(description="List the entries after this name.", examples=[PROFILE])] = "",
) -> Page:
    return Page(request, limit, after)


OfNames = Annotated[Page, Depends(_of_names)]
