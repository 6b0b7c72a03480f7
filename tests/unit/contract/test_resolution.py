"""What is guaranteed, from what is asked and what the policy says."""

import pytest

from contract.effective import EffectivePolicy
from contract.merging import Layer, merge
from contract.names import Direction, Source
from contract.policy import parse_policy
from contract.reading import read
from contract.resolution import Cause, Requested, resolve

M = 1_000_000


def policy(**data: str) -> EffectivePolicy:
    """Of the cluster: ``request_max="5M"`` is ``egress.request.max``."""
    said = {f"egress.{key.replace('_', '.')}": text for key, text in data.items()}
    parsed, problems = parse_policy(said)
    assert problems == ()
    return merge(None, [Layer("rel", "podpace-policy", Source.CLUSTER, parsed)])


def requested(limit: str | None, request: str | None, rule: EffectivePolicy) -> Requested | None:
    """What egress has guaranteed."""
    written = {"podpace.io/egress-bandwidth": limit, "podpace.io/egress-request": request}
    annotations = {key: text for key, text in written.items() if text is not None}
    return resolve(read(annotations), rule).request(Direction.EGRESS)


@pytest.mark.parametrize(
    ("limit", "request_", "rule", "held"),
    [
        (None, None, {}, None),
        ("10M", None, {}, None),
        ("10M", "2M", {}, (2 * M, Cause.ASKED, Source.POD)),
        (None, "2M", {}, (2 * M, Cause.ASKED, Source.POD)),
        ("10M", "20M", {}, (10 * M, Cause.LOWERED, Source.POD)),
        ("10M", "2M", {"request_max": "1M"}, (1 * M, Cause.LOWERED, Source.POD)),
        ("10M", "2M", {"request_min": "3M"}, (3 * M, Cause.RAISED, Source.POD)),
        ("2M", "1M", {"request_min": "3M"}, (2 * M, Cause.LOWERED, Source.POD)),
        ("10M", "x", {"request_default": "3M"}, (3 * M, Cause.DEFAULT, Source.CLUSTER)),
        (None, None, {"request_default": "3M"}, (3 * M, Cause.DEFAULT, Source.CLUSTER)),
        ("2M", None, {"request_default": "3M"}, (2 * M, Cause.LOWERED, Source.CLUSTER)),
        (None, "9M", {"max": "4M"}, (4 * M, Cause.LOWERED, Source.POD)),
    ],
)
def test_a_request_is_within_the_policy_and_never_above_the_limit(
    limit: str | None,
    request_: str | None,
    rule: dict[str, str],
    held: tuple[int, Cause, Source] | None,
) -> None:
    """Total: what cannot be read counts as not asked."""
    found = requested(limit, request_, policy(**rule))

    assert (found and (found.bits_per_second, found.cause, found.source)) == held


def test_a_pod_with_a_request_alone_is_labelled() -> None:
    """It has no limit, and is attached."""
    resolution = resolve(read({"podpace.io/ingress-request": "2M"}), EffectivePolicy())

    assert resolution.limited
    assert resolution.labels() == {
        "podpace.io/limited": "true",
        "podpace.io/ingress-request-bits-per-second": "2000000",
        "podpace.io/source": "pod",
        "podpace.io/mode": "enforce",
    }
