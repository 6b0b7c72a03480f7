"""What goes wrong with certificates, minute by minute, until every handshake is good again."""

import base64
import ssl
from collections.abc import Callable
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from certs.authority import utc_now
from kube.errors import ApiError
from tests.unit.webhook.fake_api import FakeApi
from tests.unit.webhook.test_authority import PATH, RELEASE, rsa_pair, write
from webhook.kube.authority import KINDS, SharedAuthority
from webhook.kube.leaf import SelfManagedLeaf
from webhook.tls import LiveContext

CONFIGURATION = f"/apis/admissionregistration.k8s.io/v1/{KINDS[0]}/podpace"
LONGEST_PAUSE_SECONDS = 30.0
"""After failures: webhook.loops' cap."""


class Replica:
    """One replica's certificates, on a clock of its own."""

    def __init__(self, api: FakeApi) -> None:
        self.api = api
        self.now = utc_now()
        authority = SharedAuthority(api, RELEASE, now=lambda: self.now)
        live = LiveContext(ssl.TLSVersion.TLSv1_3)
        self.leaf = SelfManagedLeaf(api, authority, live, ["w"], "podpace")

    def pass_time(self, seconds: float) -> None:
        """Steps as the loop makes them; after a failed one the longest pause."""
        until = self.now + timedelta(seconds=seconds)
        while self.now < until:
            try:
                pause = self.leaf.step()
            except ApiError:
                pause = LONGEST_PAUSE_SECONDS
            self.now += timedelta(seconds=pause)

    def is_trusted(self) -> bool:
        """Whether an API server would accept what is served now."""
        [webhook] = self.api.objects[CONFIGURATION]["webhooks"]
        bundle = base64.b64decode(webhook["clientConfig"].get("caBundle", ""))
        leaf = self.leaf._leaf
        if leaf is None or not bundle:
            return False
        served = x509.load_pem_x509_certificate(leaf.certificate)
        for issuer in x509.load_pem_x509_certificates(bundle):
            try:
                served.verify_directly_issued_by(issuer)
            except (ValueError, TypeError, InvalidSignature):
                continue
            valid = (served, issuer)
            return all(c.not_valid_before_utc <= self.now < c.not_valid_after_utc for c in valid)
        return False


@pytest.fixture
def replica(api: FakeApi) -> Replica:
    """One that serves."""
    write(api, {})
    api.put(CONFIGURATION, {"metadata": {}, "webhooks": [{"clientConfig": {}}]})
    found = Replica(api)
    found.pass_time(60)
    assert found.is_trusted()
    return found


FAULTS: dict[str, Callable[[FakeApi], object]] = {
    "garbage": lambda api: write(api, {"ca.crt": b"x", "tls.crt": b"x", "tls.key": b"x"}),
    "an RSA pair": lambda api: write(api, rsa_pair()),
    "emptied": lambda api: write(api, {}),
    "deleted": lambda api: api.delete(PATH),
    "deleted and made anew": lambda api: write(api, {}, uid="2"),
    "caBundle emptied": lambda api: api.put(
        CONFIGURATION, {"metadata": {}, "webhooks": [{"clientConfig": {}}]}
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("starts", [False, True])
def test_within_a_minute_all_is_good_again(
    replica: Replica, fault: Callable[[FakeApi], object], starts: bool
) -> None:
    """By itself, in a replica that runs and in one that starts then."""
    fault(replica.api)
    if starts:
        replica = Replica(replica.api)

    replica.pass_time(60)

    assert replica.is_trusted()


def test_a_leaf_that_ran_out_is_renewed_at_the_next_look(replica: Replica) -> None:
    """As after a suspended node, or a clock that was put right."""
    replica.now += timedelta(days=8)
    assert not replica.is_trusted()

    replica.pass_time(60)

    assert replica.is_trusted()


def test_an_authority_that_ran_out_is_replaced(replica: Replica) -> None:
    """A cluster that was off for more than a year."""
    replica.now += timedelta(days=500)

    replica.pass_time(60)

    assert replica.is_trusted()


@pytest.mark.parametrize("minutes", [10, 60 * 24 * 30])
def test_an_outage_of_the_api_server_harms_no_certificate(replica: Replica, minutes: int) -> None:
    """Ten minutes, or a month: the leaf is renewed by the signer that is known."""
    replica.api.fail = ApiError("no route to host")
    replica.pass_time(minutes * 60)
    during = replica.is_trusted()
    replica.api.fail = None
    replica.pass_time(60)

    assert during
    assert replica.is_trusted()


def test_two_replicas_come_to_trust_one_another_again(replica: Replica) -> None:
    """Whoever looks first repairs; the other follows within its next look."""
    other = Replica(replica.api)
    other.pass_time(60)
    replica.api.delete(PATH)

    replica.pass_time(20)
    other.pass_time(20)
    replica.pass_time(20)

    assert replica.is_trusted()
    assert other.is_trusted()
