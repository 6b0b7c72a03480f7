"""Tests of what this machine's kernel may not have: collected in a virtual machine only."""

import os

collect_ignore_glob = [] if "PODPACE_VM" in os.environ else ["test_*.py"]
