"""What each image installs: the ranges of pyproject.toml, and the file that pins them.

``python -m tests.images.lock IMAGE`` prints the ranges; ``make lock`` hands them to uv.
"""

import sys
import tomllib
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).parents[2]
EXTRAS: Final = {"webhook": ("daemons", "fast"), "enforcer": ("daemons",)}
"""The extras that each image holds."""
_COMMANDS_ONLY: Final = "kubernetes"
"""The official client (126 MB) asks the commands of people's kubeconfigs; no image has those."""


def ranges(image: str) -> list[str]:
    """Requirements as pyproject.toml has them, with what our own package is built with."""
    content = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    project = content["project"]
    found = [r for r in project["dependencies"] if not r.startswith(_COMMANDS_ONLY)]
    for extra in EXTRAS[image]:
        found += project["optional-dependencies"][extra]
    return [*found, *content["build-system"]["requires"]]


def lock_file(image: str) -> Path:
    """Exact versions and the hashes of their files, beside the image's Dockerfile."""
    return REPOSITORY / image / "requirements.txt"


if __name__ == "__main__":
    print(*ranges(sys.argv[1]), sep="\n")
