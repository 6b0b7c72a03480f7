#!/usr/bin/env bash
# pyroute2 0.9.7: an option that it does not know changes the queue instead of failing.
#
# Seen: a bfifo asked for a limit of 50,000 bytes has the kernel's default (1,514,000 for 1,000 packets
# of a veth with MTU 1500), because pyroute2 has no module for that kind and leaves its options out.
# A pfifo whose "limit" is misspelt gets a limit of 0 packets, which is neither the default nor what
# was asked for. Both calls return as if all were well; iproute2's tc refuses both.
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

from pyroute2 import NetNS

space = sys.argv[1]


def shown() -> str:
    out = subprocess.run(
        ["ip", "netns", "exec", space, "tc", "qdisc", "show", "dev", "d0"],
        capture_output=True, text=True, check=True,
    ).stdout.split()
    return f"{out[1]} limit {out[out.index('limit') + 1]}"


with NetNS(space) as net:
    index = net.link_lookup(ifname="d0")[0]
    for kind, options in (("bfifo", {"limit": 50000}), ("pfifo", {"limmit": 7}), ("pfifo", {"limit": 7})):
        net.tc("replace", kind, index, 0x10000, **options)
        print(kind, options, "->", shown())
        net.tc("del", index=index, handle=0x10000, parent=0xFFFFFFFF)
PY
)
echo "$seen"
for wrong in "bfifo limmit 7" "pfifo limmit 7"; do
    # shellcheck disable=SC2086
    ! ip netns exec "$space" tc qdisc add dev d0 root $wrong 2>/dev/null
done
diff <(echo "$seen") - <<'WANT'
bfifo {'limit': 50000} -> bfifo limit 1514000b
pfifo {'limmit': 7} -> pfifo limit 0p
pfifo {'limit': 7} -> pfifo limit 7p
WANT
echo "as before"
