"""The optional file of settings: the environment's names in YAML, for what is too long for a variable."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

if TYPE_CHECKING:
    import yaml

CONFIG_DIR = "CONFIG_DIR"
WORKER_CONFIG = "WORKER_CONFIG"
NAMES = ("worker.yaml", "worker.yml")
"""What is looked for in CONFIG_DIR."""
_DEFAULT_DIR = "config"
_ALIKE = 0.85


class ConfigFileSettings(BaseModel):
    """Where the file is. Only the environment can say."""

    config_dir: str = _DEFAULT_DIR
    """Folder that may hold `worker.yaml` or `worker.yml`: see [A file of settings](#a-file-of-settings)"""
    worker_config: str | None = None
    """That file itself, wherever it is; then it must be there"""


class BadConfigFile(ValueError):
    """The file can't be used. Names the file, the line and the key."""


def find_config(environ: Mapping[str, str]) -> Path | None:
    """The file that the environment means, None: there is none. Raises BadConfigFile."""
    if named := environ.get(WORKER_CONFIG):
        return Path(named)
    folder = Path(environ.get(CONFIG_DIR) or _DEFAULT_DIR)
    found = [folder / name for name in NAMES if (folder / name).is_file()]
    if len(found) > 1:
        raise BadConfigFile(f"{CONFIG_DIR}: both {' and '.join(map(str, found))} are there, wanted one")
    return found[0] if found else None


def read_config(path: Path, known: Mapping[str, bool]) -> dict[str, Any]:
    """The file's settings by field name (lower case), empty ones left out.

    ``known`` says of each field whether it takes a value that isn't text: those get mappings and lists as they are,
    all others get what the environment would hold: plain values as written, lists of plain values with commas between
    them, anything else as JSON.

    Raises:
        BadConfigFile: not readable, not YAML, no mapping, a key that is unknown, or there twice.
    """
    found: dict[str, Any] = {}
    for key, line, value in _entries(path):
        name = key.lower()
        if name in ConfigFileSettings.model_fields:
            raise BadConfigFile(f"{path}, line {line}: {key}: only the environment can say where this file is")
        if name not in known:
            raise BadConfigFile(f"{path}, line {line}: {key}: no such setting{did_you_mean(name, known)}")
        if name in found:
            raise BadConfigFile(f"{path}, line {line}: {key}: is there twice")
        found[name] = value if known[name] and not isinstance(value, str) else _as_text(value)
    return {name: value for name, value in found.items() if value != ""}


def did_you_mean(name: str, known: Mapping[str, Any]) -> str:
    """`; did you mean NAME?`, or nothing."""
    alike = like(name, known)
    return f"; did you mean {alike.upper()}?" if alike else ""


def like(name: str, known: Mapping[str, Any]) -> str | None:
    """The known name that this one is probably a misspelling of."""
    alike = get_close_matches(name.lower(), known, 1, _ALIKE)
    return alike[0] if alike else None


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(one, str | int | float) and "," not in str(one) for one in value):
        return ",".join(str(one) for one in value)
    return json.dumps(value, default=str)


def _entries(path: Path) -> Iterator[tuple[str, int, Any]]:
    """(key, line, value) in the file's order. Plain values are text as written: 0123 and 1:30 stay what they are."""
    import yaml

    try:
        loader = _loader()(path.read_text(encoding="utf-8"))
        top = loader.get_single_node()
        if top is None:
            return
        if not isinstance(top, yaml.MappingNode):
            raise BadConfigFile(f"{path}: wanted a mapping of settings")
        for key, value in top.value:
            made = _plain(value) if isinstance(value, yaml.ScalarNode) else loader.construct_object(value, deep=True)
            yield str(key.value), key.start_mark.line + 1, made
    except OSError as error:
        raise BadConfigFile(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadConfigFile(f"{path}: not UTF-8") from None
    except yaml.MarkedYAMLError as error:
        # Its whole text would repeat the line, which may hold a password.
        where = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise BadConfigFile(f"{path}{where}: not YAML: {error.problem}") from None


def _plain(node: yaml.ScalarNode) -> str:
    return "" if node.tag == "tag:yaml.org,2002:null" else str(node.value)


def _loader() -> type[yaml.SafeLoader]:
    import yaml

    class Loader(yaml.SafeLoader):
        """Refuses a key that is there twice: YAML's own way is that the last one wins without a word."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen = set()
            for key, _ in node.value:
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, "a key is there twice", key.start_mark)
                seen.add(key.value if isinstance(key.value, str) else None)
            return super().construct_mapping(node, deep)

    return Loader
