"""The records have one layout: what bcc compiled is what enforcer/datapath/abi.py reads."""

import ctypes
import itertools
import re
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from contract.limits import Limit, Limits
from contract.names import Direction, Mode
from enforcer.datapath import abi, exempt, state_abi
from enforcer.datapath.layout import layout_of
from enforcer.state import Given, Rates, exempt_list_id
from tests.kernel import flows
from tests.kernel.programs import Programs, constant, load

CGROUP_ID = 0x1122_3344_5566_7788
LIST_ID = 0x8877_6655_4433_2211
LIMITS = Limits(Limit(8_000_000, 800_000), Limit(80_000_000, 1_600_000))


@pytest.fixture(scope="module")
def programs() -> Programs:
    """The programs as bcc compiles them."""
    return load()


def fields(structure: type, prefix: str = "", base: int = 0) -> dict[str, tuple[int, int]]:
    """Offset and size of every number in a structure, by dotted name."""
    found: dict[str, tuple[int, int]] = {}
    for name, kind in structure._fields_:
        offset = base + getattr(structure, name).offset
        if hasattr(kind, "_fields_"):
            found |= fields(kind, f"{prefix}{name}.", offset)
        else:
            found[prefix + name] = (offset, ctypes.sizeof(kind))
    return found


def read(record: bytes, layout: dict[str, tuple[int, int]]) -> dict[str, int]:
    """Every number of a record as the programs see it."""
    return {
        name: int.from_bytes(record[offset : offset + size], "little")
        for name, (offset, size) in layout.items()
    }


def numbered(layout: dict[str, tuple[int, int]], size: int) -> tuple[bytes, dict[str, int]]:
    """A record in which every number is another one, and which is which."""
    record = bytearray(size)
    numbers = dict(zip(layout, itertools.count(1001), strict=False))
    for name, (offset, width) in layout.items():
        record[offset : offset + width] = numbers[name].to_bytes(width, "little")
    return bytes(record), numbers


@pytest.mark.parametrize("mtu_bytes", [1500, 9001])
@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("exempt", [(), ("10.0.0.0/8",)])
def test_the_programs_read_every_limit_where_it_is_written(
    programs: Programs, mode: Mode, exempt: tuple[str, ...], mtu_bytes: int
) -> None:
    """Each field of struct limits holds what encode_limits was given for it."""
    limits = Limits(LIMITS.ingress, LIMITS.egress, mode, exempt)
    layout = fields(programs.module[b"test_limits"].Leaf)
    expected = {
        "cgroup_id": CGROUP_ID,
        "mode": constant("MODE_OBSERVE" if mode is Mode.OBSERVE else "MODE_ENFORCE"),
        "exempt_list": exempt_list_id(exempt),
        "flags": 0,
        "local_list": 0,
        "current_until_ns": 0,
    }
    for direction in Direction:
        limit = limits.of(direction)
        assert limit is not None
        for place in (direction.value, f"{direction.value}_later"):
            expected |= held(place, direction, limit, limit, mtu_bytes)
    record = abi.encode_limits(CGROUP_ID, limits, mtu_bytes=mtu_bytes)
    assert read(record, layout) == expected
    assert abi.decode_limits(record, exempt) == limits
    assert abi.decode_exempt_list(record) == exempt_list_id(exempt)
    assert abi.decode_mtu(record) == mtu_bytes


def held(
    place: str, direction: Direction, now: Limit, said: Limit, mtu_bytes: int = 1500
) -> dict[str, int]:
    """What the programs read of one direction: what holds now, and what its user had said."""
    found = {
        "bits_per_second": said.bits_per_second,
        "burst_bits": said.burst_bits,
        "rate_bytes_per_sec": now.rate_bytes_per_sec,
        "burst_bytes": now.burst_bytes,
        "debt_bytes": abi.debt_bytes(direction, now, mtu_bytes),
        "epoch_ns": abi.epoch_ns(now.rate_bytes_per_sec, mtu_bytes),
        "frame_bytes": mtu_bytes + 14,
    }
    factor = abi.credit_factor(now.rate_bytes_per_sec)
    found |= dict(zip(("credit_multiplier", "credit_shift"), factor, strict=True))
    return {f"{place}.{name}": number for name, number in found.items()}


def test_what_is_given_of_what_is_shared_stands_beside_the_limit(programs: Programs) -> None:
    """The current rate, until when, what holds afterwards; and the limit is read back as before."""
    layout = fields(programs.module[b"test_limits"].Leaf)
    rates = Rates(None, Given(2_000_000, 1_000_000), 77, 99)
    record = abi.with_rates(abi.encode_limits(CGROUP_ID, LIMITS), LIMITS, rates)
    said, ingress = LIMITS.egress, LIMITS.ingress
    assert said is not None
    assert ingress is not None
    found = read(record, layout)
    expected = {
        "cgroup_id": CGROUP_ID,
        "exempt_list": 0,
        "local_list": 99,
        "mode": 0,
        "flags": constant("FLAG_SHARES"),
        "current_until_ns": 77,
    }
    expected |= held("egress", Direction.EGRESS, Limit(16_000_000, 800_000), said)
    expected |= held("egress_later", Direction.EGRESS, Limit(8_000_000, 400_000), said)
    expected |= held("ingress", Direction.INGRESS, ingress, ingress)
    expected |= held("ingress_later", Direction.INGRESS, ingress, ingress)
    assert found == expected
    assert abi.decode_limits(record, ()) == LIMITS


def test_what_is_asked_often_is_read_without_the_rest(programs: Programs) -> None:
    """decode_used gives what decode_state does."""
    leaf = programs.module[b"test_state"].Leaf
    record, _ = numbered(fields(leaf), ctypes.sizeof(leaf))
    state = state_abi.decode_state(record)
    used = state_abi.decode_used(record)
    for direction, side in ((Direction.INGRESS, state.ingress), (Direction.EGRESS, state.egress)):
        assert used.of(direction) == (side.passed_bytes + side.taken_bytes, side.local_bytes)


def test_user_space_reads_every_field_of_the_state(programs: Programs) -> None:
    """decode_state gives each number of struct pod_state its own name, and leaves none out."""
    leaf = programs.module[b"test_state"].Leaf
    layout = fields(leaf)
    record, numbers = numbered(layout, ctypes.sizeof(leaf))
    state = state_abi.decode_state(record)
    words = (name for name in state_abi.PodState.__slots__ if name not in list(Direction))
    decoded = {name: getattr(state, name) for name in words} | {
        f"{direction.value}.{name}": getattr(getattr(state, direction.value), name)
        for direction in Direction
        for name in state_abi.DirectionState.__slots__
    }
    # Not data: the lock, and what aligns its neighbour.
    assert decoded == {
        name: number
        for name, number in numbers.items()
        if not name.startswith("lock") and "reserved" not in name
    }
    assert read(state_abi.encode_state(state), layout) == decoded | {
        name: 0 for name in numbers if name not in decoded
    }


def test_the_state_of_another_abi_is_read_by_its_names(programs: Programs) -> None:
    """Wherever a field has gone to, its number is taken over; what was not there before is 0."""
    layout = layout_of(programs.fds["target_state"])
    record = bytearray(range(256)) + bytearray(layout.value_bytes - 256)
    state = state_abi.decode_state(bytes(record))
    assert state_abi.take_over_state(bytes(record), layout.numbers) == state

    moved = {
        name: slice(place.start + 24, place.stop + 24)
        for name, place in layout.numbers.items()
        if name != "egress.epoch"
    }
    taken = state_abi.take_over_state(bytes(24) + bytes(record), moved)
    assert taken == replace(state, egress=replace(state.egress, epoch=0))


def test_user_space_reads_and_writes_every_field_of_a_flow(programs: Programs) -> None:
    """decode_flow gives each number of struct flow its own name, and encode_flow puts it back."""
    layout = layout_of(programs.fds["flows"])
    places = {
        name: (place.start, place.stop - place.start) for name, place in layout.numbers.items()
    }
    record, numbers = numbered(places, layout.value_bytes)
    flow = flows.decode_flow(record)
    assert {name: getattr(flow, name) for name in flows.Flow.__slots__} == numbers
    assert flows.encode_flow(flow) == record


def test_debt_is_read_with_its_sign(programs: Programs) -> None:
    """A record whose tokens are below zero decodes to a number below zero."""
    layout = fields(programs.module[b"test_state"].Leaf)
    offset, _size = layout["egress.tokens_bytes"]
    record = bytearray(state_abi.STATE_BYTES)
    struct.pack_into("=q", record, offset, -5)
    assert state_abi.decode_state(bytes(record)).egress.tokens_bytes == -5


@pytest.mark.parametrize(
    ("cidr", "prefix_bits", "address"),
    [
        ("10.1.0.0/16", 96 + 16, b"\x0a\x01" + bytes(14)),
        ("0.0.0.0/0", 96, bytes(16)),
        ("2001:db8::/32", 96 + 32, b"\x20\x01\x0d\xb8" + bytes(12)),
        ("::/0", 96, bytes(16)),
    ],
)
def test_the_programs_read_a_cidr_as_it_is_written(
    programs: Programs, cidr: str, prefix_bits: int, address: bytes
) -> None:
    """Each field of struct exempt_key holds its part of the list's id and the CIDR."""
    layout = fields(programs.module[b"exempt_networks"].Key)
    key = exempt.encode(LIST_ID, cidr)
    assert read(key, layout) == {
        "prefix_bits": prefix_bits,
        "list_high": LIST_ID >> 32,
        "list_low": LIST_ID & 0xFFFFFFFF,
        "version": 6 if ":" in cidr else 4,
        "address": int.from_bytes(address, "little"),
    }
    assert exempt.list_of(key) == LIST_ID
    assert exempt.cidr_of(key) == cidr


def test_maps_take_the_keys_and_values_that_user_space_writes(programs: Programs) -> None:
    """Key and value sizes, as the kernel knows them."""
    expected = {
        "target_limits": (len(abi.map_key(1)), abi.LIMITS_BYTES),
        "target_state": (len(abi.map_key(1)), state_abi.STATE_BYTES),
        "flows": (4, flows.FLOW_BYTES),
        "exempt_networks": (exempt.KEY_BYTES, 4),
        "earlier_sockets": (abi.CGROUP_ID_BYTES, 4),
        "iterator_release": (4, len(abi.encode_count(0))),
    }
    assert {name: map_sizes(programs.fds[name]) for name in expected} == expected


def test_constants_agree() -> None:
    """A second has as many nanoseconds on both sides, and the flags are the same bits."""
    assert constant("NSEC_PER_SEC") == abi.NSEC_PER_SEC
    assert constant("FLAG_INGRESS_SHAPED") == abi.FLAG_INGRESS_SHAPED
    assert constant("FLAG_HANDOVER") == abi.FLAG_HANDOVER


def map_sizes(fd: int) -> tuple[int, int]:
    """Of one key and one value."""
    text = Path(f"/proc/self/fdinfo/{fd}").read_text()
    key, value = (
        re.search(rf"^{name}_size:\s*(\d+)", text, re.MULTILINE) for name in ("key", "value")
    )
    assert key is not None
    assert value is not None
    return int(key[1]), int(value[1])
