"""The watch over the rows: the service does not wait for its first look, and what must wait for it does."""

from __future__ import annotations

import threading

import pytest
from fakes import Services
from waiting import DEADLINE_SECONDS

from infrastructure.upkeep.row_scan import RowWatch


@pytest.mark.parametrize("fails", [False, True])
def test_the_service_goes_on_during_the_first_look_and_what_waits_begins_behind_it(
    service: Services, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    looking, go_on, begun = threading.Event(), threading.Event(), threading.Event()

    def look(_: RowWatch) -> None:
        looking.set()
        assert go_on.wait(DEADLINE_SECONDS)
        if fails:
            raise OSError("the store is away")

    monkeypatch.setattr(RowWatch, "look", look)
    watch = RowWatch(service.store, begun.set)
    watch.start()
    try:
        assert looking.wait(DEADLINE_SECONDS)
        assert not begun.is_set()
        go_on.set()
        assert begun.wait(DEADLINE_SECONDS)
    finally:
        go_on.set()
        watch.stop()
