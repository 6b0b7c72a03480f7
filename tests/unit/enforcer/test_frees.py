"""Which changes of a target's limits leave sockets with something to give back."""

import pytest

from contract.limits import Limits, make_limit
from contract.names import Mode
from enforcer.datapath import abi, records
from enforcer.state import Way

LIMIT, OTHER = make_limit(10_000_000), make_limit(20_000_000)
BOTH, SHAPED = Limits(LIMIT, LIMIT), Way(is_shaped=True)


@pytest.mark.parametrize(
    ("before", "was", "after", "way", "frees"),
    [
        (BOTH, SHAPED, BOTH, SHAPED, False),
        (BOTH, SHAPED, Limits(OTHER, OTHER), SHAPED, False),
        (BOTH, SHAPED, Limits(ingress=LIMIT), SHAPED, True),
        (BOTH, SHAPED, Limits(egress=LIMIT), SHAPED, True),
        (BOTH, SHAPED, BOTH, Way(), True),
        (BOTH, Way(), Limits(egress=LIMIT), Way(), False),
        (BOTH, SHAPED, Limits(LIMIT, LIMIT, Mode.OBSERVE), SHAPED, True),
        (Limits(LIMIT, LIMIT, Mode.OBSERVE), SHAPED, BOTH, SHAPED, False),
        (None, Way(), BOTH, SHAPED, False),
    ],
)
def test_a_change_frees_sockets_where_it_takes_a_pace_or_a_bound_off(
    before: Limits | None, was: Way, after: Limits, way: Way, *, frees: bool
) -> None:
    """Another number does not; no record, or observing, had set nothing."""
    record = None
    if before is not None:
        record = abi.encode_limits(1, before, ingress_shaped=was.is_shaped)
    assert records.frees_sockets(record, after, way) == frees
