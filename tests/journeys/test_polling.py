"""Polling as RFC 8628 section 3.5 asks for it."""

import pytest
from fakes import FakeClock, FakeProvider, Services, error

SETTING = "office-mfp/smtp-service"


@pytest.mark.parametrize("engine", ["sqlite"])
def test_slow_down_holds_for_the_rest_of_the_attempt(
    service: Services, provider: FakeProvider, clock: FakeClock
) -> None:
    service.add_machine()
    service.tokens.request(SETTING, None, "operator")
    token_id = service.tokens.status(SETTING).profile.token_id

    def seconds_to_wait() -> float | None:
        clock.step(seconds=30)
        return service.tokens.poll(token_id)

    assert seconds_to_wait() == 5
    provider.answers(error("slow_down"))
    assert [seconds_to_wait() for _ in range(3)] == [10, 10, 10]
    provider.answers(error("slow_down"))
    assert [seconds_to_wait() for _ in range(3)] == [15, 15, 15]
    # The next attempt is a new one.
    service.tokens.cancel(SETTING, "operator")
    service.tokens.request(SETTING, None, "operator")
    assert seconds_to_wait() == 5
