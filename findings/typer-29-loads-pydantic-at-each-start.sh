#!/usr/bin/env bash
# typer 0.29.2 loads pydantic when a command that has an option is run; 0.28.0 has no such dependency.
#
# Seen with one command that has one option (`str`): 260 modules instead of 189 in a process that does nothing else.
# Where the program is larger it was 0.1 of 0.3 s of processor time before the first line of its own ran. The
# program's own source is the same, and so is what it prints. Who counts a command line's start in milliseconds has
# to bound the version from above.
#
# Needs /usr/bin/python3 with venv. Fails when any of this changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/app.py" <<'PY'
import sys
from importlib.metadata import version
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def greet(name: Annotated[str, typer.Option()] = "you") -> None:
    print("typer", version("typer"), "greets", name)


try:
    app(["--name", "me"])
except SystemExit:
    pass
print("pydantic loaded:", "pydantic" in sys.modules)
print(len(sys.modules), file=sys.stderr)
PY
for number in 0.28.0 0.29.2; do
    /usr/bin/python3 -m venv "$work/$number"
    "$work/$number/bin/pip" install -q --disable-pip-version-check "typer==$number" rich==15.0.0
    "$work/$number/bin/python" "$work/app.py" >>"$work/seen" 2>"$work/modules-$number"
done
cat "$work/seen"
diff "$work/seen" - <<'WANT'
typer 0.28.0 greets me
pydantic loaded: False
typer 0.29.2 greets me
pydantic loaded: True
WANT
before=$(<"$work/modules-0.28.0") after=$(<"$work/modules-0.29.2")
echo "modules loaded: $before, then $after"
((after > before + 40))
echo "as before"
