"""One layout: what bcc compiled of bpf/shape.h is what enforcer/datapath/shaper_abi.py reads."""

import ctypes
import warnings
from dataclasses import replace

import pytest

from enforcer.datapath import compiler, shaper_abi
from enforcer.datapath.pins import SOURCE_DIR
from tests.kernel.programs import load
from tests.kernel.test_layout import fields, numbered, read

RECORD = shaper_abi.LinkRecord(
    0x1122_3344_5566_7788, 1_250_000, 20_000_000, 11, 13, 15, 19, 17, 3, 5, 7, 9
)


@pytest.fixture(scope="module")
def module():
    """The shaper as bcc compiles it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load()
        found, _fds = compiler.load_shaper(SOURCE_DIR)
    return found


def test_the_program_reads_every_field_of_a_link_where_it_is_written(module) -> None:
    """Each by its name, and what follows from the rate."""
    layout = fields(module[b"links"].Leaf)
    found = read(shaper_abi.encode_link(RECORD), layout)
    expected = {name: getattr(RECORD, name) for name in shaper_abi.LinkRecord.__slots__}
    factor = shaper_abi.cost_factor(RECORD.rate_bytes_per_sec)
    expected |= dict(zip(("cost_multiplier", "cost_shift"), factor, strict=True))
    programs_own = dict.fromkeys(("own_bytes", "own_charged_bytes", "cgroup_level"), 0)
    assert found == expected | programs_own
    assert shaper_abi.decode_link(shaper_abi.encode_link(RECORD)) == RECORD


def test_what_a_program_has_counted_is_read_beside_the_record(module) -> None:
    """It changes nothing of the record."""
    leaf = module[b"links"].Leaf.from_buffer_copy(shaper_abi.encode_link(RECORD))
    leaf.own_bytes = 5
    assert shaper_abi.decode_own_bytes(bytes(leaf)) == 5
    assert shaper_abi.decode_link(bytes(leaf)) == RECORD


def test_user_space_reads_every_field_of_a_shaper(module) -> None:
    """And leaves none out."""
    leaf = module[b"shapers"].Leaf
    layout = fields(leaf)
    record, numbers = numbered(layout, ctypes.sizeof(leaf))
    decoded = shaper_abi.decode_shaper(record)
    own = {name: getattr(decoded, name) for name in shaper_abi.ShaperRecord.__slots__}
    numbers = {name: value for name, value in numbers.items() if name in own}
    assert own == numbers
    assert len(own) == len(layout) - 2  # the lock and what fills it up


def test_a_link_with_queues_inside_the_pod_is_remembered() -> None:
    """Versions that paced by ACKs said so in a number that is gone."""
    numbers = {name: getattr(RECORD, name) for name in shaper_abi.LinkRecord.__slots__}
    taken = shaper_abi.take_over_link(numbers | {"queue": 1})
    assert taken == replace(RECORD, flags=RECORD.flags | shaper_abi.LINK_OLD_QUEUES)
    assert shaper_abi.take_over_link(numbers | {"queue": 0}) == RECORD
