"""The daemon's real process with a fake kernel: ``python -m tests.fake_enforcer PROC OPTIONS…``.

PROC is a procfs with the mount table to believe in (``tests.fakes.make_proc``). SIGUSR1 makes
every later attach fail.
"""

import signal
import sys
from pathlib import Path

from enforcer.__main__ import main
from enforcer.unsupported import UnsupportedNetwork
from tests.fakes import FakeDatapath

if __name__ == "__main__":
    datapath = FakeDatapath()
    signal.signal(signal.SIGUSR1, lambda *_: datapath.fail.update(attach="the kernel said EINVAL"))
    main(
        sys.argv[2:],
        build=lambda _pins, _root, _compile: datapath,
        build_network=lambda _pins: UnsupportedNetwork("no veth"),
        proc=Path(sys.argv[1]),
    )
