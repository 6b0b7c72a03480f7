"""Tests of a kernel that is too old: collected on that one only."""

import os

from bench.rig.process import EMULATED
from tests.vm.kernels import TOO_OLD

IS_TOO_OLD = os.uname().release.startswith(f"{TOO_OLD}.")
collect_ignore_glob = [] if EMULATED and IS_TOO_OLD else ["test_*.py"]
