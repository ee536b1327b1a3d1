"""Subcommands imported when they are called, so that help is quick and a missing extra breaks one command."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command


class LazyCommand(TyperCommand):
    """Stands in the help for the function or typer app at ``target`` (``module:name``)."""

    def __init__(self, name: str, target: str, summary: str) -> None:
        super().__init__(name=name, help=summary)
        self._target = target

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Where a call's arguments are read: from here on the real command acts."""
        return self._real().make_context(info_name, args, parent=parent, **extra)

    def _real(self) -> Any:
        module, _, name = self._target.partition(":")
        try:
            found = getattr(import_module(module), name)
        except ModuleNotFoundError as error:
            message = (
                f"llmpool {self.name}: the package {error.name} is missing: pip install 'llm-worker-pool[cli,demo]'"
            )
            typer.echo(message, err=True)
            raise typer.Exit(1) from None
        if isinstance(found, typer.Typer):
            return get_command(found)
        alone = typer.Typer(add_completion=False, rich_markup_mode=None)
        alone.command(self.name)(found)
        return get_command(alone)


class LazyGroup(TyperGroup):
    """A group of :class:`LazyCommand`; subclasses name them."""

    lazy_commands: tuple[tuple[str, str, str], ...] = ()
    """Name, target, summary."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, target, summary in self.lazy_commands:
            self.add_command(LazyCommand(name, target, summary))
