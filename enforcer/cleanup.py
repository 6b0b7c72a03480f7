"""``podpace-enforcer --cleanup``: removes everything of ours, and looks again."""

from collections.abc import Callable
from pathlib import Path

from enforcer.errors import DatapathError
from enforcer.ports import Datapath, Network
from enforcer.reconcile.store import remove_files
from enforcer.targets import CgroupTree

RUN_FOLDER = "podpace"
"""Below the cgroup root; ``podpace run`` makes its cgroups in it."""


def clean_up(
    datapath: Datapath,
    network: Network,
    cgroups: CgroupTree,
    *,
    pin_root: Path,
    state_dir: Path,
    socket_path: Path,
    say: Callable[[str], None],
) -> bool:
    """Remove, saying each thing, then look again; True when nothing is left.

    Failure contract: a thing that cannot be removed is said, and the rest is removed all the same.
    There is no point of no return; running it again goes on where it stopped.
    """
    _clear_interfaces(network, say)
    _sweep(network, say)
    for path in cgroups.walk():
        if _is_ours(datapath, path):
            try:
                datapath.detach(path)
                say(f"detached {path}")
            except DatapathError as error:
                say(f"cannot detach {path}: {error}")
    left = [f"programs on {path}" for path in cgroups.walk() if _is_ours(datapath, path)]
    left += [f"queues of cgroup {number}" for number in sorted(network.shaped())]
    left += _sweep(network, say)
    for file in remove_files(state_dir):
        say(f"removed {file}")
    try:
        datapath.unpin()
        say(f"unpinned {pin_root}")
    except (DatapathError, OSError) as error:
        say(f"cannot remove {pin_root}: {error}")
    if socket_path.is_socket():
        socket_path.unlink()
        say(f"removed {socket_path}")
    if (
        socket_path.parent.name == "podpace"
        and socket_path.parent.is_dir()
        # In a container it is mounted there by somebody else.
        and not socket_path.parent.is_mount()
        and not any(socket_path.parent.iterdir())
    ):
        socket_path.parent.rmdir()
        say(f"removed {socket_path.parent}")
    for folder in _run_cgroups(cgroups.root):
        try:
            folder.rmdir()
            say(f"removed {folder}")
        except OSError:
            say(f"cannot remove {folder}: a command started by podpace run is still in it")

    left += [str(p) for p in (pin_root, state_dir, socket_path) if p.exists()]
    left += [str(path) for path in _run_cgroups(cgroups.root)]
    for thing in left:
        say(f"left: {thing}")
    if not left:
        say("nothing of ours is left")
    return not left


def _clear_interfaces(network: Network, say: Callable[[str], None]) -> None:
    for number in sorted(network.shaped()):
        try:
            network.unshape(number)
            say(f"took the queues of cgroup {number} off its interfaces")
        except DatapathError as error:
            say(f"cannot take the queues of cgroup {number} off: {error}")


def _sweep(network: Network, say: Callable[[str], None]) -> list[str]:
    """What no record tells of any more, as where the folder of pins is lost."""
    try:
        swept = network.sweep()
    except DatapathError as error:
        say(f"cannot look for what is left on interfaces: {error}")
        return []
    for place in swept:
        say(f"took what was left off {place}")
    return [f"queues or filters on {place}" for place in swept]


def _is_ours(datapath: Datapath, path: str) -> bool:
    try:
        return datapath.observe(path) is not None
    except DatapathError:
        return Path(path).exists()


def _run_cgroups(root: Path) -> list[Path]:
    """The folders of ``podpace run``, deepest first."""
    top = root / RUN_FOLDER
    return sorted((p for p in [*top.rglob("*"), top] if p.is_dir()), reverse=True)
