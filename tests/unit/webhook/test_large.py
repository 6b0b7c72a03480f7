"""A review that is spooled is judged as it would be whole, whatever of it is not kept."""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from contract import names
from webhook.admission import make_mutate, make_validate
from webhook.digest import MAX_MAP_BYTES, digest
from webhook.large import Spool
from webhook.metrics import Metrics
from webhook.policies import PolicyKey, PolicyStore

LIMITED = {names.ANNOTATION_EGRESS_BANDWIDTH: "10M"}
TEXTS = {
    "escapes": "<",
    "escapes and others": "a<b<",
    "a rate and spaces": "10M\u2028",
    "newlines": "\n",
    "backslashes": "\\",
    "pairs": "\N{GRINNING FACE}",
    "quotes": '"',
    "letters": "x",
}


@pytest.fixture
def spool() -> Iterator[Spool]:
    """An empty one."""
    found = Spool()
    yield found
    os.close(found.descriptor)


@pytest.fixture
def store() -> PolicyStore:
    """With a maximum."""
    found = PolicyStore("podpace-system")
    found.put(PolicyKey("podpace-system"), {"egress.max": "1G"})
    return found


def review(found: Any) -> bytes:
    """An update that brings it, as Go escapes it."""
    request = {"uid": "u", "operation": "UPDATE", "namespace": "shop", "name": "podpace-policy"}
    request |= {"object": found, "oldObject": None}
    body = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    return json.dumps(body).replace("<", "\\u003c").encode()


def pods(long: str) -> list[dict[str, Any]]:
    """With a long text in each place that has one."""
    env = {"containers": [{"env": [{"value": long}]}]}
    return [
        {"metadata": {"annotations": LIMITED}, "spec": env},
        {"metadata": {"annotations": LIMITED | {"a": long}}},
        {"metadata": {"annotations": {names.ANNOTATION_EGRESS_BANDWIDTH: "10M" + long}}},
        {"metadata": {"annotations": LIMITED, "labels": {long: "a"}}},
        {"metadata": {"annotations": LIMITED, "name": long, "generateName": long}},
        {"metadata": {"annotations": LIMITED}, "spec": {"nodeSelector": {"a": long}}},
    ]


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
@pytest.mark.parametrize("place", range(6))
@pytest.mark.parametrize("chunk_bytes", [65_536, 262_147])
def test_a_spooled_review_is_judged_as_it_would_be_whole(
    spool: Spool, store: PolicyStore, text: str, place: int, chunk_bytes: int
) -> None:
    """Though the middle of very long texts is not kept."""
    whole = review(pods(text * 600_000)[place])
    for start in range(0, len(whole), chunk_bytes):
        spool.write(whole[start : start + chunk_bytes])
    mutate = make_mutate(store, Metrics())

    assert mutate(digest("mutate", spool.read())) == mutate(digest("mutate", whole))


def test_of_a_very_long_text_little_more_is_kept_than_maps_may_have(spool: Spool) -> None:
    """So 20 MB of escapes cost neither memory nor the time to read them."""
    whole = review(pods("<" * 3_000_000)[0])

    for start in range(0, len(whole), 100_000):
        spool.write(whole[start : start + 100_000])

    assert len(whole) > 18_000_000
    assert len(spool.read()) < MAX_MAP_BYTES + 400_000


def test_a_spooled_policy_is_judged_as_it_would_be_whole(spool: Spool, store: PolicyStore) -> None:
    """With a text that is too long for one."""
    whole = review({"metadata": {"name": "podpace-policy"}, "data": {"mode": "<" * 3_000_000}})
    for start in range(0, len(whole), 100_000):
        spool.write(whole[start : start + 100_000])
    validate = make_validate(store, "podpace-system", Metrics())

    assert validate(digest("validate", spool.read())) == validate(digest("validate", whole))
