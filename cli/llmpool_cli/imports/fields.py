"""Reading somebody else's object: each value by its field's path, so that an error can name it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llmpool_cli.kube_yaml import NotObjects, kind_of_value, objects_in


class ImportFault(ValueError):
    """What can't be read or taken over: the field, what was given, what is allowed."""


@dataclass(frozen=True)
class Fields:
    """A mapping of the object, and where it stands in there."""

    path: str
    given: dict[str, Any]

    def at(self, name: str) -> str:
        """A field's path."""
        return f"{self.path}.{name}".removeprefix(".")

    def has(self, name: str) -> bool:
        """Whether the field says anything: null and an empty text don't."""
        return self.given.get(name) not in (None, "")

    def part(self, name: str) -> Fields:
        """A mapping; empty where there is none."""
        value = self.given.get(name)
        if value is None:
            return Fields(self.at(name), {})
        return _mapping(self.at(name), value)

    def parts(self, name: str) -> list[Fields]:
        """A list of mappings; empty where there is none."""
        value = self.given.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise ImportFault(f"{self.at(name)}: got {kind_of_value(value)}, wanted a list")
        return [_mapping(f"{self.at(name)}[{index}]", item) for index, item in enumerate(value)]

    def text(self, name: str, default: str = "") -> str:
        """A text; numbers and truth values become the text that YAML would have made of it in quotes."""
        value = self.given.get(name)
        if value is None or value == "":
            return default
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, str | int | float):
            return str(value)
        raise ImportFault(f"{self.at(name)}: got {kind_of_value(value)}, wanted a text")

    def needed(self, name: str) -> str:
        """A text that has to be there."""
        if not self.has(name):
            raise ImportFault(f"{self.at(name)}: missing")
        return self.text(name)

    def whole(self, name: str, default: int) -> int:
        """A whole number, not negative, also as a text."""
        text = self.text(name, str(default))
        if not text.isascii() or not text.isdecimal() or len(text) > 12:
            raise ImportFault(f"{self.at(name)}: got {text[:40]!a}, wanted a whole number, 0 or more")
        return int(text)

    def truth(self, name: str, *, otherwise: bool = False) -> bool:
        """A truth value as Go's ParseBool reads it. ``otherwise``: what another text counts as."""
        match self.text(name, "false").lower():
            case "1" | "t" | "true":
                return True
            case "0" | "f" | "false":
                return False
        return otherwise


def _mapping(path: str, value: Any) -> Fields:
    if not isinstance(value, dict):
        raise ImportFault(f"{path or 'document'}: got {kind_of_value(value)}, wanted a mapping")
    return Fields(path, {str(key): field for key, field in value.items()})


def read_object(text: str, kind: str, group: str) -> Fields:
    """The one object of ``kind`` in a YAML file of any number of documents and lists.

    Raises:
        ImportFault: none, several, or no YAML at all.
    """
    try:
        objects = [_mapping("", one) for one in objects_in(text)]
    except NotObjects as fault:
        raise ImportFault(str(fault)) from None
    found = [one for one in objects if one.text("kind") == kind and one.text("apiVersion").startswith(f"{group}/")]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(one.part("metadata").text("name", "?") for one in found)
        raise ImportFault(f"document: {len(found)} of kind {kind} ({names}), wanted one")
    kinds = ", ".join(sorted({one.text("kind", "none") for one in objects})) or "nothing"
    raise ImportFault(f"kind: got {kinds}, wanted {kind} of {group}")


def without_nulls(value: Any) -> Any:
    """The same without fields that are null: a pool has none."""
    if isinstance(value, dict):
        return {key: without_nulls(field) for key, field in value.items() if field is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value
