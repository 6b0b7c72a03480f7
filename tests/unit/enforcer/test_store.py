"""enforcer.reconcile.store: whose files are believed."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from contract.api import TargetRequest
from enforcer.errors import EnforcerError
from enforcer.reconcile.store import TargetStore

SPOILT: dict[str, Callable[[Path], object]] = {
    "others may write it": lambda path: path.chmod(0o602),
    "its group may write it": lambda path: path.chmod(0o620),
    "somebody else's": lambda path: os.chown(path, 1234, -1),
    "a link": lambda path: path.rename(f"{path}.x") and path.symlink_to(f"{path}.x"),
    "a pipe nobody writes to": lambda path: path.unlink() or os.mkfifo(path, 0o600),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_state_file_that_somebody_else_could_have_written_is_not_believed(bench, how):
    """It could raise a limit; what is in force stays, the file too, and it is told."""
    if "else's" in how and os.geteuid():
        pytest.skip("only root gives files away")
    bench.requests.set_target("/kubepods/pod1", TargetRequest(ingress="10M"))
    (path,) = bench.state_files
    SPOILT[how](path)
    calls = len(bench.datapath.calls)
    bench.restart()

    bench.reconciler.adopt()

    assert bench.reconciler.targets() == ()
    assert bench.log.events == ["refused"]
    assert bench.errors == ["load"]
    assert path in bench.state_files
    assert "write" not in bench.datapath.calls[calls:]
    assert list(bench.datapath.attached) == [str(bench.pod)]


@pytest.mark.parametrize("mode", [0o702, 0o720])
def test_a_folder_that_others_may_write_is_refused_with_what_to_do(tmp_path, mode):
    """Who may put files there, or take some away, says what is limited."""
    tmp_path.chmod(mode)

    with pytest.raises(EnforcerError, match=f"chmod 700 {tmp_path}"):
        TargetStore(tmp_path).lock()
