"""Runs one of our commands and starts it anew whenever a source file changes.

    python -m tests.dev.reload PACKAGE[,PACKAGE…] MODULE [ARGUMENT…]

uvicorn's own reloader watches; the command need not be a web application.
"""

import runpy
import sys
from pathlib import Path
from typing import Any

from uvicorn import Config
from uvicorn.supervisors import ChangeReload


def run(sockets: Any = None) -> None:
    """In the child: as ``python -m MODULE ARGUMENT…``."""
    module, *arguments = sys.argv[2:]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    root = Path(__file__).parents[2]
    folders = [str(root / name) for name in sys.argv[1].split(",")]
    config = Config("uvicorn:unused", reload=True, reload_dirs=folders, log_config=None)
    ChangeReload(config, target=run, sockets=[]).run()
