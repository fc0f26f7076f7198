"""Somebody at a page, with a pointer or with the keyboard alone."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from playwright.sync_api import Locator, Page, expect

_MOST_STOPS = 300
_IS_FOCUSED = "one => one === document.activeElement"
# The body has the focus before the first stop and between the last and the first.
_SHOWS_FOCUS = """() => {
    const one = document.activeElement;
    if (one === document.body) return true;
    const { outlineStyle, outlineWidth } = getComputedStyle(one), box = one.getBoundingClientRect();
    return outlineStyle !== "none" && parseFloat(outlineWidth) >= 2
        && box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
}"""


class Person(Protocol):
    """What a person does at a page."""

    def __init__(self, page: Page) -> None: ...

    def type_into(self, field: Locator, text: str) -> None:
        """Type a text into an empty field."""

    def press(self, control: Locator) -> None:
        """Press a button or follow a link."""

    def tick(self, box: Locator) -> None:
        """Check a box."""

    def choose(self, field: Locator, option: str) -> None:
        """Choose the option with this text."""

    def choose_file(self, field: Locator, file: Path) -> None:
        """Choose a file of this computer."""


class Pointer(Person):
    """A person with a pointer."""

    def __init__(self, page: Page) -> None:
        self._page = page

    def type_into(self, field: Locator, text: str) -> None:
        field.fill(text)

    def press(self, control: Locator) -> None:
        control.click()

    def tick(self, box: Locator) -> None:
        box.check()

    def choose(self, field: Locator, option: str) -> None:
        field.select_option(label=option)

    def choose_file(self, field: Locator, file: Path) -> None:
        field.set_input_files(file)


class Keyboard(Person):
    """A person with the keyboard alone, who has to see at every stop where they are."""

    def __init__(self, page: Page) -> None:
        self._page = page
        # The browser hands choosers over from the first subscription on, which may come too late for the key.
        page.on("filechooser", lambda _: None)

    def type_into(self, field: Locator, text: str) -> None:
        self._go_to(field)
        self._page.keyboard.type(text)

    def press(self, control: Locator) -> None:
        self._go_to(control)
        self._page.keyboard.press("Enter")

    def tick(self, box: Locator) -> None:
        self._go_to(box)
        self._page.keyboard.press("Space")

    def choose(self, field: Locator, option: str) -> None:
        self._go_to(field)
        self._page.keyboard.type(option)
        expect(field.locator("option:checked")).to_have_text(option)

    def choose_file(self, field: Locator, file: Path) -> None:
        self._go_to(field)
        with self._page.expect_file_chooser() as chooser:
            self._page.keyboard.press("Enter")
        chooser.value.set_files(file)

    def _go_to(self, control: Locator) -> None:
        for _ in range(_MOST_STOPS):
            if control.evaluate(_IS_FOCUSED):
                return
            self._page.keyboard.press("Tab")
            assert self._page.evaluate(_SHOWS_FOCUS), self._page.evaluate("document.activeElement.outerHTML")
        raise AssertionError(f"the keyboard does not reach {control}")
