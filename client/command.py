"""What `podpace` and `kubectl podpace` have in common: two options, and how they end."""

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from client.errors import ClientError
from client.output import Format, print_problems


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("podpace"))
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option("--version", callback=_print_version, is_eager=True, help="Print it and exit."),
]
Output = Annotated[Format, typer.Option("--output", "-o", help="How to print.")]


def run(
    app: typer.Typer, prepare: Callable[[list[str]], list[str]] = lambda arguments: arguments
) -> None:
    """Run what ``prepare`` leaves of the arguments, and print what is wrong in one line each."""
    try:
        app(args=prepare(sys.argv[1:]))
    except ClientError as error:
        print_problems(error.lines)
        sys.exit(error.exit_code)
