"""A value that must never be seen: any attempt to print it gives `***`."""

from __future__ import annotations

from typing import NoReturn


class Secret:
    """A token, device code or key as text; only `reveal()` returns the text.

    A secret compares by value and can't be pickled or put into JSON. The class is no dataclass, because `asdict` and
    serializers of dataclasses would read the text.
    """

    __slots__ = ("_value",)
    _value: str

    def __init__(self, value: str) -> None:
        object.__setattr__(self, "_value", value)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a Secret never changes")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def reveal(self) -> str:
        """Return the text, for the code that sends or seals it."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __format__(self, _: str) -> str:
        return "***"

    def __reduce__(self) -> str:
        raise TypeError("a Secret can't be pickled")
