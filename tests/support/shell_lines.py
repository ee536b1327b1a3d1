"""The commands of a document's shell blocks: their words and the variables before them, without a shell."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

_ENDS = {"|", "||", "&&", ";", "&", "(", ")"}
_ASSIGNMENT = re.compile(r"([A-Z_][A-Z0-9_]*)=.*", re.DOTALL)
_TAKES_COMMAND = {"export", "sudo", "exec", "env"}


@dataclass(frozen=True, slots=True)
class Command:
    """One simple command. `export A=b` is a command without words."""

    variables: tuple[str, ...]
    words: tuple[str, ...]

    @property
    def program(self) -> str:
        """The command's name without its folder, or nothing."""
        return self.words[0].rsplit("/", 1)[-1] if self.words else ""


def commands(script: str) -> Iterator[Command]:
    """The commands of a script, in their order; redirections are left out."""
    for line in re.sub(r"\\\n\s*", " ", script).splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word not in _ENDS:
                words.append(word)
            elif words:
                yield _command(words)
                words = []


def _command(words: list[str]) -> Command:
    variables: list[str] = []
    rest = list(words)
    while rest and (rest[0] in _TAKES_COMMAND or _ASSIGNMENT.fullmatch(rest[0])):
        word = rest.pop(0)
        if found := _ASSIGNMENT.fullmatch(word):
            variables.append(found[1])
    return Command(tuple(variables), tuple(_without_redirections(rest)))


def _without_redirections(words: list[str]) -> Iterator[str]:
    skipped = False
    for word in words:
        if skipped:
            skipped = False
        elif set(word) <= {"<", ">", "&"}:
            skipped = True
        else:
            yield word
