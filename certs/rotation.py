"""How an authority is replaced without one failed handshake.

    fresh    one authority signs and is trusted
    overlap  its successor is published beside it: both are trusted, the old one still signs
    switched after the overlap the successor signs; the old one stays trusted until it expires

The state lives in one Secret that all replicas share; each step is a pure function of it and of
the clock, so it does not matter which replica takes it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from certs.authority import (
    KeyPair,
    check_authority,
    expiry,
    make_authority,
    merge_bundles,
    needs_renewal,
)

OVERLAP: Final = timedelta(minutes=10)
"""API servers take seconds to honour a changed webhook configuration; this is generous."""

_BUNDLE: Final = "ca.crt"
_CERTIFICATE: Final = "tls.crt"
_KEY: Final = "tls.key"
_NEXT: Final = "next.json"


class UnusableAuthorityError(Exception):
    """The Secret's content is not a state of ours; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Successor:
    """An authority that is trusted but does not sign yet."""

    authority: KeyPair
    published_at: datetime


@dataclass(frozen=True, slots=True)
class AuthorityState:
    """What the Secret holds."""

    signer: KeyPair
    bundle: bytes
    """Every certificate that callers should trust, PEM."""
    successor: Successor | None = None


def first_state(now: datetime) -> AuthorityState:
    """A new authority, trusted alone."""
    authority = make_authority(now)
    return AuthorityState(authority, authority.certificate)


def next_state(
    state: AuthorityState, now: datetime, overlap: timedelta = OVERLAP, *, force: bool = False
) -> AuthorityState:
    """The state that should hold now; equal to ``state`` when there is nothing to do.

    ``force`` begins a rotation although the signer is young.
    """
    if expiry(state.signer.certificate) <= now:
        # Nobody trusts an expired signer any longer: waiting would only prolong the outage.
        signer = state.successor.authority if state.successor else make_authority(now)
        bundle = merge_bundles(now, state.bundle, signer.certificate)
        return AuthorityState(signer, bundle)
    if state.successor is not None:
        if now - state.successor.published_at < overlap:
            return state
        return AuthorityState(state.successor.authority, state.bundle)
    if force or needs_renewal(state.signer.certificate, now):
        successor = make_authority(now)
        bundle = merge_bundles(now, state.bundle, successor.certificate)
        return replace(state, bundle=bundle, successor=Successor(successor, now))
    return replace(state, bundle=merge_bundles(now, state.bundle))


def to_secret_data(state: AuthorityState) -> dict[str, bytes]:
    """The Secret's data (before base64)."""
    data = {
        _BUNDLE: state.bundle,
        _CERTIFICATE: state.signer.certificate,
        _KEY: state.signer.key,
    }
    if state.successor is not None:
        data[_NEXT] = json.dumps(
            {
                "certificate": state.successor.authority.certificate.decode(),
                "key": state.successor.authority.key.decode(),
                "publishedAt": state.successor.published_at.isoformat(),
            }
        ).encode()
    return data


def from_secret_data(data: Mapping[str, bytes]) -> AuthorityState:
    """Reads what :func:`to_secret_data` wrote, and checks all of it: what is returned can be used.

    Raises:
        UnusableAuthorityError: it is something else.
    """
    try:
        signer = KeyPair(data[_CERTIFICATE], data[_KEY])
        check_authority(signer, data[_BUNDLE])
        successor = None
        if _NEXT in data:
            written = json.loads(data[_NEXT])
            published_at = datetime.fromisoformat(written["publishedAt"])
            successor = Successor(
                KeyPair(written["certificate"].encode(), written["key"].encode()),
                published_at if published_at.tzinfo else published_at.replace(tzinfo=UTC),
            )
            check_authority(successor.authority, data[_BUNDLE])
        return AuthorityState(signer, data[_BUNDLE], successor)
    except KeyError as e:
        message = f"it has no {e.args[0]}"
        raise UnusableAuthorityError(message) from e
    except (ValueError, TypeError, AttributeError) as e:
        raise UnusableAuthorityError(str(e)) from e
