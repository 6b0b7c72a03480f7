"""``python -m tests.node``: two real nodes with Podpace for work by hand, until Ctrl-C.

With ``--bare``, without Podpace.
"""

import contextlib
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.images.build import missing_packages
from tests.node.cluster import running
from tests.node.images import image_store
from tests.node.product import install
from tests.node.rootfs import missing_programs, root_filesystem


def main() -> None:
    """Start, say how to use it, wait."""
    if missing := missing_programs() + missing_packages():
        sys.exit(f"missing: apt-get install {' '.join(missing)}")
    root = root_filesystem()
    images = image_store(root)
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - started:4.0f} s] {text}", file=sys.stderr, flush=True)

    with (
        tempfile.TemporaryDirectory(prefix="podpace-nodes-") as folder,
        running(Path(folder), root, images, say) as cluster,
    ):
        if "--bare" not in sys.argv:
            install(cluster)
        kubectl = cluster.plane.bin / "kubectl"
        config = cluster.plane.kubeconfig("admin")
        inside = f"nsenter --net=/proc/{os.getpid()}/ns/net"
        print(f"{inside} {kubectl} --kubeconfig={config} get nodes,pods -A -o wide", flush=True)
        for name, machine in cluster.machines.items():
            shell = f"{inside} {sys.executable} -m tests.node.shell {machine.place.address}"
            print(f"echo 'ip -brief address' | {shell}  # a script on {name}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    main()
