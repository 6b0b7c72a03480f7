"""How one authority follows another."""

from datetime import UTC, datetime, timedelta

import pytest

from certs.authority import make_authority
from certs.rotation import (
    OVERLAP,
    AuthorityState,
    UnusableAuthorityError,
    first_state,
    from_secret_data,
    next_state,
    to_secret_data,
)

NOW = datetime(2030, 1, 1, tzinfo=UTC)
OLD = NOW + timedelta(days=300)


def test_a_young_authority_stays() -> None:
    """Nothing to do is the same state."""
    state = first_state(NOW)

    assert next_state(state, NOW + timedelta(days=100)) == state


def test_the_successor_is_trusted_before_it_signs() -> None:
    """The old authority signs on through the overlap."""
    state = first_state(NOW)

    overlapping = next_state(state, OLD)

    assert overlapping.signer == state.signer
    assert overlapping.successor is not None
    assert overlapping.bundle == (state.bundle + overlapping.successor.authority.certificate)
    assert next_state(overlapping, OLD + OVERLAP - timedelta(seconds=1)) == overlapping


def test_the_predecessor_is_trusted_until_it_expires() -> None:
    """After the overlap the successor signs; leaves of the old one are still about."""
    state = first_state(NOW)
    overlapping = next_state(state, OLD)
    assert overlapping.successor is not None

    switched = next_state(overlapping, OLD + OVERLAP)
    alone = next_state(switched, NOW + timedelta(days=366))

    assert switched == AuthorityState(overlapping.successor.authority, overlapping.bundle)
    assert alone.bundle == switched.signer.certificate


def test_a_rotation_can_be_asked_for() -> None:
    """Once: asking again during the overlap does not start another."""
    state = first_state(NOW)

    asked = next_state(state, NOW, force=True)

    assert asked.successor is not None
    assert next_state(asked, NOW, force=True) == asked


def test_an_expired_authority_is_replaced_at_once() -> None:
    """Nobody trusts it, so there is nothing to overlap with."""
    state = first_state(NOW)
    late = NOW + timedelta(days=400)

    replaced = next_state(state, late)

    assert replaced.signer != state.signer
    assert replaced.bundle == replaced.signer.certificate


def test_an_expired_authority_gives_way_to_its_published_successor() -> None:
    """Those who already trust the successor go on."""
    overlapping = next_state(first_state(NOW), OLD)
    assert overlapping.successor is not None

    replaced = next_state(overlapping, NOW + timedelta(days=366), timedelta(days=999))

    assert replaced.signer == overlapping.successor.authority


@pytest.mark.parametrize("state", [first_state(NOW), next_state(first_state(NOW), OLD)])
def test_a_state_survives_the_secret(state: AuthorityState) -> None:
    """Written and read again it is the same."""
    assert from_secret_data(to_secret_data(state)) == state


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"tls.crt": b"x", "tls.key": b"x", "ca.crt": b"x"},
        to_secret_data(first_state(NOW)) | {"next.json": b"[]"},
        to_secret_data(first_state(NOW)) | {"next.json": b"{"},
        {"tls.crt": make_authority(NOW).certificate},
        to_secret_data(first_state(NOW)) | {"ca.crt": make_authority(NOW).certificate},
        to_secret_data(first_state(NOW)) | {"tls.key": make_authority(NOW).key},
        to_secret_data(first_state(NOW)) | {"tls.key": b"-----BEGIN PRIVATE KEY-----"},
    ],
)
def test_what_could_not_be_used_is_not_taken_for_an_authority(data: dict[str, bytes]) -> None:
    """All of it is looked at: certificate, key, bundle, successor."""
    with pytest.raises(UnusableAuthorityError):
        from_secret_data(data)
