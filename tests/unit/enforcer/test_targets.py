"""enforcer.targets: from what the user wrote to a cgroup."""

import os
from pathlib import Path

import pytest

from contract.problems import Problem
from enforcer.errors import UnsupportedError
from enforcer.targets import CgroupTree, Resolved, find_cgroup_root
from tests.fakes import make_proc
from tests.processes import fake_machine

ID = "0123456789abcdef" * 4
OTHER = "0123456789ffffff" * 4


@pytest.fixture
def tree(tmp_path: Path) -> CgroupTree:
    """A cgroup tree with one pod."""
    root = fake_machine(tmp_path)
    (root / "kubepods/pod1").mkdir(parents=True)
    return CgroupTree(root, tmp_path / "proc")


def _reason(tree: CgroupTree, text: str) -> str:
    problem = tree.resolve(text)
    assert isinstance(problem, Problem), problem
    assert (problem.key, problem.text) == ("target", text)
    assert problem.fix
    return problem.reason


@pytest.mark.parametrize(
    "text",
    [
        "cgroup:/kubepods/pod1",
        "/kubepods/pod1",
        "/kubepods/pod1/",
        "kubepods/pod1",
        "/kubepods/../kubepods/pod1",
        "{root}/kubepods/pod1",
        "cgroup:{root}/kubepods/pod1",
    ],
)
def test_every_spelling_of_a_path_has_one_name(tree, text):
    """From the mount or absolute, with the prefix or without."""
    path = tree.root / "kubepods/pod1"

    resolved = tree.resolve(text.format(root=tree.root))

    assert resolved == Resolved("cgroup:/kubepods/pod1", str(path), path.stat().st_ino)


def test_a_path_from_the_mount_wins_over_a_folder_elsewhere(tree):
    """/tmp exists everywhere; as a target it is the cgroup of that name."""
    (tree.root / "tmp").mkdir()

    assert isinstance(tree.resolve("/tmp"), Resolved)


def test_a_path_that_does_not_exist(tree):
    """The message says where it was looked for."""
    assert _reason(tree, "/nothing") == f"does not exist, neither as it is nor below {tree.root}"


def test_a_path_that_is_no_cgroup(tree, tmp_path):
    """A folder of an ordinary file system, or a file of a cgroup."""
    (tree.root / "kubepods/cgroup.procs").touch()

    assert _reason(tree, str(tmp_path)) == "is not a cgroup"
    assert _reason(tree, "/kubepods/cgroup.procs") == "is not a cgroup"


def test_a_link_out_of_the_tree_is_no_cgroup(tree, tmp_path):
    """The folder behind the name counts."""
    (tree.root / "link").symlink_to(tmp_path)

    assert _reason(tree, "/link") == "is not a cgroup"
    assert _reason(tree, "cgroup:../") == "is not a cgroup"


def test_a_cgroup_v1_path(tree, tmp_path):
    """Programs attach to v2 only."""
    (tmp_path / "v1/pod").mkdir()

    assert _reason(tree, str(tmp_path / "v1/pod")).startswith("is a cgroup v1 path")


@pytest.mark.parametrize("text", ["/", "cgroup:/", "{root}"])
def test_the_root_cgroup(tree, text):
    """It holds the machine, the daemon and everything else."""
    assert _reason(tree, text.format(root=tree.root)).startswith("is the root cgroup")


@pytest.mark.parametrize("text", ["", "cgroup:"])
def test_an_empty_target(tree, text):
    """Says what can be given."""
    assert _reason(tree, text) == "names nothing"


def test_a_zero_byte(tree):
    """No path can hold one; the kernel must not be asked."""
    assert tree.resolve("a\0b").reason == "holds a zero byte"


def test_a_path_longer_than_the_kernel_takes(tree):
    """ENAMETOOLONG is a wrong path like any other."""
    assert _reason(tree, "x" * 5000).startswith("does not exist")


def _process(tree: CgroupTree, tmp_path: Path, number: int, cgroup: str) -> None:
    (tmp_path / f"proc/{number}").mkdir()
    (tmp_path / f"proc/{number}/cgroup").write_text(f"4:memory:/x\n{cgroup}\n")


def test_a_process_means_its_cgroup(tree, tmp_path):
    """The v2 line counts, and the name stays as given."""
    _process(tree, tmp_path, 42, "0::/kubepods/pod1")

    resolved = tree.resolve("pid:42")

    assert isinstance(resolved, Resolved)
    assert resolved.name == "pid:42"
    assert resolved.cgroup_path == str(tree.root / "kubepods/pod1")


@pytest.mark.parametrize(
    ("cgroup", "reason"),
    [
        ("0::/", "is in the root cgroup"),
        ("0::/../other", "is in no cgroup v2 that is visible here"),
        ("1:cpu:/x", "is in no cgroup v2 that is visible here"),
        ("0::/kubepods/gone (deleted)", "is in a cgroup that is not at "),
    ],
)
def test_a_process_that_cannot_be_limited(tree, tmp_path, cgroup, reason):
    """Each has its own reason."""
    _process(tree, tmp_path, 42, cgroup)

    assert _reason(tree, "pid:42").startswith(reason)


def test_a_dead_process(tree):
    """No such folder in procfs."""
    assert _reason(tree, "pid:999") == "is not a running process"


@pytest.mark.parametrize("text", ["pid:", "pid:0", "pid:-1", "pid:one", "pid:1/../2", "pid:\u0661"])
def test_not_a_process_id(tree, text):
    """Only plain positive numbers reach procfs."""
    assert _reason(tree, text) == "is not a process id"


@pytest.mark.parametrize(
    "folder",
    [
        f"system.slice/docker-{ID}.scope",
        f"kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope",
        f"kubepods.slice/crio-{ID}.scope",
        f"machine.slice/libpod-{ID}.scope",
        f"system.slice/app.service/libpod-payload-{ID}",
        f"system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:{ID}",
        f"kubepods/pod1/{ID}",
        f"docker/{ID}",
    ],
)
def test_a_container_is_found_by_id_and_prefix(tree, folder):
    """As each runtime names its cgroups; the name carries the whole id."""
    (tree.root / folder).mkdir(parents=True)

    for text in (ID, ID[:12], ID[:3]):
        resolved = tree.resolve(f"container:{text}")
        assert isinstance(resolved, Resolved)
        assert resolved.name == f"container:{ID}"
        assert resolved.cgroup_path == str(tree.root / folder)


def test_a_container_with_a_tree_of_its_own_is_its_top_cgroup(tree):
    """A nested runtime may repeat the id below it."""
    (tree.root / f"docker/{ID}/system.slice/docker-{ID}.scope").mkdir(parents=True)

    assert tree.resolve(f"container:{ID}").cgroup_path == str(tree.root / f"docker/{ID}")


def test_a_monitor_is_not_its_container(tree):
    """CRI-O puts conmon beside the container, under the same id."""
    (tree.root / f"crio-conmon-{ID}.scope").mkdir()

    assert _reason(tree, f"container:{ID}").startswith("is no container")


def test_a_prefix_of_two_containers_is_ambiguous(tree):
    """More of the id decides."""
    (tree.root / f"docker-{ID}.scope").mkdir()
    (tree.root / f"docker-{OTHER}.scope").mkdir()

    assert _reason(tree, "container:01234567") == (
        "fits 2 containers (0123456789abcd, 0123456789ffff)"
    )
    assert tree.resolve(f"container:{ID[:13]}").name == f"container:{ID}"


@pytest.mark.parametrize("text", ["container:", "container:my-app", "container:../x"])
def test_not_a_container_id(tree, text):
    """Names are the runtime's; ids are hexadecimal."""
    assert _reason(tree, text) == "is not a container id"


def test_an_unknown_container(tree):
    """Says where it was looked for and how to list them."""
    problem = tree.resolve("container:beef")

    assert problem.reason == f"is no container in a cgroup below {tree.root}"
    assert "crictl ps" in problem.fix


def test_the_cgroup_root_is_found_in_the_mount_table(tmp_path):
    """The first cgroup v2 mount."""
    root = fake_machine(tmp_path)

    assert find_cgroup_root(None, tmp_path / "proc") == root


def test_a_given_cgroup_root_must_be_cgroup_v2(tmp_path):
    """Anything else would be attached to nothing."""
    root = fake_machine(tmp_path)
    (root / "sub").mkdir()

    assert find_cgroup_root(root / "sub", tmp_path / "proc") == root / "sub"
    for wrong in (tmp_path, tmp_path / "v1", root / "missing"):
        with pytest.raises(UnsupportedError, match="is not a folder of cgroup v2"):
            find_cgroup_root(wrong, tmp_path / "proc")


def test_on_a_hybrid_host_the_folder_of_all_hierarchies_is_enough(tmp_path):
    """A chart names one folder for all nodes."""
    unified = tmp_path / "cgroup/unified"
    unified.mkdir(parents=True)
    make_proc(tmp_path / "proc", unified, tmp_path / "cgroup/cpu")

    assert find_cgroup_root(tmp_path / "cgroup", tmp_path / "proc") == unified


def test_without_cgroup_v2_the_message_says_how_to_mount_it(tmp_path):
    """A machine with cgroup v1 only."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text("1 0 8:1 / / rw - ext4 /dev/sda rw\n")

    with pytest.raises(UnsupportedError, match="mount -t cgroup2"):
        find_cgroup_root(None, tmp_path / "proc")


def test_a_mount_point_with_a_space_is_read(tmp_path):
    """The mount table writes it as \\040; of two mounts on one point the later one shows."""
    root = tmp_path / "my cgroups"
    root.mkdir()
    (tmp_path / "proc/self").mkdir(parents=True)
    escaped = os.fspath(root).replace(" ", "\\040")
    (tmp_path / "proc/self/mountinfo").write_text(
        f"1 0 8:1 / / rw - ext4 /dev/sda rw\n"
        f"2 1 0:7 / {escaped} rw - tmpfs tmpfs rw\n"
        f"3 2 0:8 / {escaped} rw - cgroup2 none rw\n"
    )

    assert find_cgroup_root(root, tmp_path / "proc") == root


def test_a_cgroup_by_another_mount_of_the_tree_is_the_same_target(tree, tmp_path):
    """Of all of it, or of a part; two targets would undo each other with every resync."""
    root, pod = tree.root, tree.root / "kubepods/pod1"
    views = {"/": tmp_path / "again", "/kubepods": tmp_path / "part"}
    with (tmp_path / "proc/self/mountinfo").open("a") as table:
        for number, (inside, view) in enumerate(views.items(), 70):
            view.symlink_to(root / inside.lstrip("/"))  # the same inodes by another name
            table.write(f"{number} 1 0:9 {inside} {view} rw - cgroup2 none rw\n")
    real = os.path.realpath
    resolve = CgroupTree(root, tmp_path / "proc")._at_root

    assert resolve(views["/"] / "kubepods/pod1") == pod
    assert resolve(views["/kubepods"] / "pod1") == pod
    assert resolve(Path(real(pod))) == pod


def test_a_mount_point_that_is_no_text_is_read(tmp_path):
    """Any user may mount with FUSE, at a name of any bytes."""
    root = fake_machine(tmp_path)
    with (tmp_path / "proc/self/mountinfo").open("ab") as table:
        table.write(b"77 1 0:9 / /home/\xff\x85 rw - fuse.x none rw\n")

    assert find_cgroup_root(None, tmp_path / "proc") == root
