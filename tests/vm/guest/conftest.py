"""Tests of what this machine's kernel may not have: collected in a virtual machine only."""

from bench.rig.process import EMULATED

collect_ignore_glob = [] if EMULATED else ["test_*.py"]
