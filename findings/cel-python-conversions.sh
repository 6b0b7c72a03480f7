#!/usr/bin/env bash
# cel-python 0.4.0: an admission rule tried with it may say the opposite of what an API server says.
#
# Seen: int(1.9) is 2 and int(2.5) is 2 (CEL's definition cuts off: 1 and 2); string(true) is not "true",
# since it is Python's "True"; string(100.0) is not "100"; 0.0/0.0 equals itself. None of them is an error,
# so a table of cases that is green here proves nothing for these. The expressions' meaning in CEL is in
# the comments beside them; cel-go, which API servers use, follows it.
#
# Needs /usr/bin/python3 with venv. Fails when any of this changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
/usr/bin/python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check cel-python==0.4.0
seen=$("$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

import celpy

print("cel-python", version("cel-python"))
environment = celpy.Environment()
for text in (
    "int(1.9) == 1",                # CEL: true, rounds toward zero
    "int(1.9) == 2",                # CEL: false
    "int(2.5) == int(1.9)",         # CEL: false, 2 and 1
    'string(true) == "true"',       # CEL: true
    'string(true) == "True"',       # CEL: false
    'string(100.0) == "100"',       # CEL: true
    "0.0 / 0.0 == 0.0 / 0.0",       # CEL: false, by IEEE 754
):
    answer = environment.program(environment.compile(text)).evaluate({})
    print(f"{text} -> {bool(answer)}")
PY
)
echo "$seen"
diff <(echo "$seen") - <<'WANT'
cel-python 0.4.0
int(1.9) == 1 -> False
int(1.9) == 2 -> True
int(2.5) == int(1.9) -> True
string(true) == "true" -> False
string(true) == "True" -> True
string(100.0) == "100" -> False
0.0 / 0.0 == 0.0 / 0.0 -> True
WANT
echo "as before"
