"""What ``-o json`` prints is stated, and the statement is true; real output is held to it in
``tests/cluster/nodes/test_kubectl.py``."""

import json

import msgspec
import pytest

from client.kube.explain import explain
from client.kube.nodes import make_groups, read_page
from client.kube.pods import read_pod
from client.kube.policies import Policies
from client.output import Format, print_data
from tests.unit.client.shapes import SCHEMA, SHAPES, conforms, make

POD = read_pod(
    {
        "metadata": {
            "namespace": "shop",
            "name": "web",
            "annotations": {"podpace.io/egress-bandwidth": "10M"},
            "labels": {
                "podpace.io/limited": "true",
                "podpace.io/egress-bits-per-second": "10000000",
                "podpace.io/egress-burst-bits": "1000",
                "podpace.io/source": "pod",
            },
        },
        "spec": {"nodeName": "a"},
        "status": {"phase": "Running"},
    }
)
PAGE = """podpace_capacity_bytes_per_second{direction="egress"} 125.0
podpace_capacity_info{direction="egress",source="option",detail=""} 1.0
"""


def test_the_stated_shape_is_the_one_that_is_printed():
    """After a wanted change: ``python -m tests.unit.client.shapes``, and the changelog."""
    assert json.loads(SCHEMA.read_text()) == make()


@pytest.mark.parametrize(
    ("command", "data"),
    [
        ("list", (POD,)),
        ("show", POD),
        ("explain", explain(POD, Policies(None, ()))),
        ("nodes", make_groups({}, {"a": read_page(PAGE)}, 1.0)),
    ],
)
def test_what_is_printed_has_it(command, data, capsys):
    """All of it, and nothing else."""
    print_data(data, Format.JSON)

    assert conforms(command, capsys.readouterr().out)


def test_what_has_another_shape_is_found():
    """A field more, a field less, another type."""
    good = msgspec.to_builtins(POD)

    assert conforms("show", json.dumps(good))
    assert not conforms("show", json.dumps(good | {"more": 1}))
    assert not conforms("show", json.dumps({k: v for k, v in good.items() if k != "mode"}))
    assert not conforms("show", json.dumps(good | {"ready": "yes"}))
    assert set(SHAPES) == {"list", "show", "explain", "set", "top", "nodes"}
