#!/usr/bin/env bash
# grafana-foundation-sdk 0.0.21: its typed model of a dashboard reads what is none, and turns a misspelt
# setting into the opposite.
#
# Seen: Dashboard.from_json takes a list for a refresh interval, a text for a height and a kind of panel that
# does not exist, and gives them back as they were. A field that it does not know is left out without a
# word, and the default of the one that was meant comes in its place: "editabel": false is written back as
# "editable": true. The schema that the SDK is made from forbids all four.
#
# Needs /usr/bin/python3 with venv. Fails when any of this changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
/usr/bin/python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check grafana-foundation-sdk==0.0.21
seen=$("$work/venv/bin/python" - <<'PY'
import json
from importlib.metadata import version

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

print("grafana-foundation-sdk", version("grafana-foundation-sdk"))
panel = {"type": "timeseris", "title": "a", "gridPos": {"x": 0, "y": 0, "w": 1, "h": "tall"}}
given = {"title": "t", "editabel": False, "refresh": ["often"], "panels": [panel]}
kept = json.loads(JSONEncoder().encode(Dashboard.from_json(given)))
print("refresh:", kept["refresh"])
print("height:", kept["panels"][0]["gridPos"]["h"])
print("kind:", kept["panels"][0]["type"])
print("editabel is there:", "editabel" in kept)
print("editable:", kept["editable"])
PY
)
echo "$seen"
diff <(echo "$seen") - <<'WANT'
grafana-foundation-sdk v0.0.21
refresh: ['often']
height: tall
kind: timeseris
editabel is there: False
editable: True
WANT
echo "as before"
