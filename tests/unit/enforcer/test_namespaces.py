"""enforcer.net.namespaces: a tenant's processes cost a bounded look."""

import os

from enforcer.net.namespaces import MOST_NAMESPACES, first_processes, network_namespaces

NOBODY = 1 << 23
"""Above every process id of Linux."""


def test_a_look_takes_some_processes_and_the_next_goes_on_behind_them(tmp_path):
    """However many there are; after the last it begins anew."""
    here = f"/proc/{os.getpid()}/ns/net"
    pids = [*range(NOBODY, NOBODY + MOST_NAMESPACES), os.getpid()]
    (tmp_path / "cgroup.procs").write_text("\n".join(map(str, pids)))

    looks = [network_namespaces(str(tmp_path))]
    for _ in range(2):
        looks.append(network_namespaces(str(tmp_path), looks[-1][1]))

    assert [list(found.values()) for found, _ in looks] == [[], [here], []]


def test_of_thousands_of_cgroups_some_are_looked_at_and_that_is_known(tmp_path):
    """Whoever asks does not take the part for the whole."""
    for number in range(600):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "cgroup.procs").write_text("1\n")

    pids, are_all = first_processes(str(tmp_path))

    assert (len(pids), are_all) == (511, False)
