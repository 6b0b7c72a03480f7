"""The real helm, as far as the chart's tests use it."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from tests.cluster.build import helm_dir

CHART: Final = Path(__file__).parents[2] / "charts" / "podpace"
RELEASE: Final = "podpace"
NAMESPACE: Final = "podpace-system"

Json = dict[str, Any]


def helm(
    *arguments: str, stdin: str | None = None, program: str = "helm"
) -> subprocess.CompletedProcess[str]:
    """Runs it with no configuration but the arguments; its failure is the caller's to judge."""
    return subprocess.run(
        [str(helm_dir() / program), *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        env={"HOME": "/nonexistent", "PATH": "/usr/bin:/bin"},
        check=False,
    )


def template(
    values: Mapping[str, Any] | None = None, *arguments: str, program: str = "helm"
) -> str:
    """The rendered chart; fails the test when it is refused."""
    command = ("template", RELEASE, str(CHART), f"--namespace={NAMESPACE}", "--values=-")
    content = yaml.safe_dump(dict(values or {}))
    done = helm(*command, *arguments, stdin=content, program=program)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refusal(values: Mapping[str, Any], program: str = "helm") -> str:
    """What helm says to values that it must not take."""
    content = yaml.safe_dump(dict(values))
    command = ("template", RELEASE, str(CHART), f"--namespace={NAMESPACE}", "--values=-")
    done = helm(*command, stdin=content, program=program)
    assert done.returncode != 0, f"taken: {values}"
    return done.stderr


def objects(
    values: Mapping[str, Any] | None = None, *arguments: str, program: str = "helm"
) -> list[Json]:
    """The rendered chart's objects, hooks included."""
    return [o for o in yaml.safe_load_all(template(values, *arguments, program=program)) if o]


def find(rendered: Sequence[Json], kind: str, name: str) -> Json:
    """One of them."""
    (found,) = [o for o in rendered if o["kind"] == kind and o["metadata"]["name"] == name]
    return found
