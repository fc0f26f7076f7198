"""A value that must never be seen: it prints as `***` wherever somebody forgets what it is."""

from __future__ import annotations

from typing import NoReturn


class Secret:
    """A token, device code or key as text; `reveal()` is the only way to the value.

    It has no `__str__` that shows it, can't be pickled or put into JSON, and compares by value. It is no dataclass:
    `asdict`, and every serializer that looks for one, would walk into it.
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
        """Return the secret itself, for the one place that sends or seals it."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __format__(self, _: str) -> str:
        return "***"

    def __reduce__(self) -> str:
        raise TypeError("a Secret can't be pickled")
