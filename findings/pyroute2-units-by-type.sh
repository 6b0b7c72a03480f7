#!/usr/bin/env bash
# pyroute2 0.9.7: a queue's rate and latency have other units as numbers than as texts.
#
# Seen: rate=1250000 is bytes per second (10 Mbit/s), rate="1250000" is bits per second (an eighth of it), and
# latency=25 is microseconds while "25" is milliseconds. So a value that has been through a configuration
# file, an environment variable or JSON with quotes makes another queue, and neither call complains.
#
# Needs root, /usr/bin/python3 with venv, iproute2. Fails when any of this changes.
set -euo pipefail
work=$(mktemp -d)
space=finding-$$
trap 'ip netns del "$space" 2>/dev/null || true; rm -rf "$work"' EXIT
/usr/bin/python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check pyroute2==0.9.7
ip netns add "$space"
ip -n "$space" link add d0 type veth peer name d1
seen=$("$work/venv/bin/python" - "$space" <<'PY'
import subprocess
import sys
from importlib.metadata import version

from pyroute2 import NetNS

space = sys.argv[1]
print("pyroute2", version("pyroute2"))
with NetNS(space) as net:
    index = net.link_lookup(ifname="d0")[0]
    for options in (
        {"rate": 1250000, "latency": 25000},
        {"rate": "1250000", "latency": 25000},
        {"rate": 1250000, "latency": 25},
        {"rate": 1250000, "latency": "25"},
    ):
        net.tc("replace", "tbf", index, 0x10000, burst=20000, **options)
        out = subprocess.run(
            ["ip", "netns", "exec", space, "tc", "qdisc", "show", "dev", "d0"],
            capture_output=True, text=True, check=True,
        ).stdout.split()
        print(options, "->", *out[out.index("rate") :])
        net.tc("del", index=index, handle=0x10000, parent=0xFFFFFFFF)
PY
)
echo "$seen"
diff <(echo "$seen") - <<'WANT'
pyroute2 0.9.7
{'rate': 1250000, 'latency': 25000} -> rate 10Mbit burst 20000b lat 25ms
{'rate': '1250000', 'latency': 25000} -> rate 1250Kbit burst 20000b lat 25ms
{'rate': 1250000, 'latency': 25} -> rate 10Mbit burst 20000b lat 24us
{'rate': 1250000, 'latency': '25'} -> rate 10Mbit burst 20000b lat 25ms
WANT
echo "as before"
