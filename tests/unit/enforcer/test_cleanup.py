"""enforcer.cleanup: everything of ours goes, and that is looked at again."""

import socket

import pytest

from contract.api import TargetRequest
from enforcer.__main__ import main
from enforcer.cleanup import clean_up
from enforcer.errors import UnsupportedError
from tests.processes import fake_machine, options


def _clean(bench):
    said: list[str] = []
    done = clean_up(
        bench.datapath,
        bench.network,
        bench.cgroups,
        pin_root=bench.work / "pins",
        state_dir=bench.work / "state",
        socket_path=bench.work / "podpace/e.sock",
        say=said.append,
    )
    return done, said


def test_nothing_of_ours_is_left(bench):
    """Programs, state files, a dead daemon's socket, and the cgroups of podpace run."""
    bench.requests.set_target("/kubepods/pod1", TargetRequest(egress="8M"))
    (bench.tree / "podpace/run-1").mkdir(parents=True)
    (bench.work / "podpace").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(bench.work / "podpace/e.sock"))

    done, said = _clean(bench)

    assert done
    assert said[-1] == "nothing of ours is left"
    assert bench.datapath.attached == {}
    assert not bench.datapath.pinned
    assert not (bench.work / "state").exists()
    assert not (bench.work / "podpace").exists()
    assert not (bench.tree / "podpace").exists()
    assert bench.pod.exists()


def test_a_second_time_there_is_nothing_to_do(bench):
    """And it says so."""
    _clean(bench)

    done, said = _clean(bench)

    assert done
    assert said[-1] == "nothing of ours is left"


def test_what_cannot_be_removed_is_named_and_the_rest_goes(bench):
    """One stubborn program does not keep the files."""
    bench.requests.set_target("/kubepods/pod1", TargetRequest(egress="8M"))
    bench.datapath.fail["detach"] = "EPERM; run it as root"

    done, said = _clean(bench)

    assert not done
    assert f"cannot detach {bench.pod}: EPERM; run it as root" in said
    assert f"left: programs on {bench.pod}" in said
    assert not (bench.work / "state").exists()


def test_files_that_are_not_ours_stay(bench):
    """The folder is then named as left."""
    (bench.work / "state/notes.txt").write_text("mine")

    done, said = _clean(bench)

    assert not done
    assert (bench.work / "state/notes.txt").exists()
    assert f"left: {bench.work / 'state'}" in said


@pytest.mark.parametrize(("pins", "code"), [(False, 0), (True, 1)])
def test_a_kubernetes_node_that_cannot_limit_is_clean_unless_something_is_there(
    tmp_path, capsys, pins, code
):
    """Else one old node would stop the uninstall of the whole cluster."""
    fake_machine(tmp_path)
    (tmp_path / "state").mkdir()
    if pins:
        (tmp_path / "pins").mkdir()

    def build(*_):
        raise UnsupportedError("this kernel is too old")

    with pytest.raises(SystemExit) as ended:
        main(["--cleanup", "--node-name=a", *options(tmp_path)], build, tmp_path / "proc")

    assert ended.value.code == code
    said = capsys.readouterr().out
    assert "this kernel is too old" in said
    assert ("nothing of ours is left" in said) is not pins
    assert not (tmp_path / "state").exists()
