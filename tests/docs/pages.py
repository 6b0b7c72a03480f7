"""The pages of the documentation, and what in their code blocks can be tried.

The words behind a block's language say what it is; a browser shows only the language:

    ```yaml file=NAME     a file, in the page's folder from here on
    ```sh run             must succeed, in that folder; ``charts`` is there, and the commands are
                          on PATH
    ```sh run fails       must fail
    ```text output        must be in the output of the block before
    ```sh run=cluster     must succeed with kubectl and helm against a cluster
    ```sh run=node        must succeed as root on a node
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.cluster.build import helm_dir

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
_BLOCK: Final = re.compile(r"^```(\S+)[ \t]+([^\n]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SECONDS: Final = 120


@dataclass(frozen=True, slots=True)
class Block:
    """One code block that says what it is."""

    words: tuple[str, ...]
    text: str


@dataclass
class Reader:
    """Somebody who does what a page says, in a folder of their own."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    programs: Path = field(default_factory=helm_dir)
    """Where helm is, and kubectl if the page needs it."""
    output: str = ""
    """Of the last command."""

    def __post_init__(self) -> None:
        (self.folder / "charts").symlink_to(ROOT / "charts")

    def follow(self, page: Path, run: str = "run") -> int:
        """How many commands were run; ``run`` is the word that blocks must have for it."""
        done = 0
        for block in blocks(page):
            match block.words:
                case (word,) if word.startswith("file="):
                    (self.folder / word.removeprefix("file=")).write_text(block.text)
                case (word, *more) if word == run:
                    self._run(block.text, fails="fails" in more)
                    done += 1
                case ("output",) if done:
                    for line in block.text.splitlines():
                        assert line.strip() in self.output, f"no {line!r} in:\n{self.output}"
        return done

    def _run(self, commands: str, *, fails: bool) -> None:
        path = f"{Path(sys.executable).parent}:{self.programs}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=self.folder,
            env=os.environ | {"PATH": path} | self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        self.output = done.stdout
        assert bool(done.returncode) is fails, f"{commands}\n{done.stdout}"


def blocks(page: Path) -> list[Block]:
    """In their order."""
    return [Block(tuple(m[2].split()), m[3]) for m in _BLOCK.finditer(page.read_text())]


def has(page: Path, word: str) -> bool:
    """Whether a block says ``word``."""
    return any(word in block.words for block in blocks(page))


def name(page: Path) -> str:
    """For a test's title."""
    return str(page.relative_to(ROOT))
