"""Very large and very crowded reviews, sent beside ordinary ones."""

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.webhook import servers
from bench.webhook.bodies import review
from bench.webhook.servers import Subject
from contract import names

ORDINARY_PER_SECOND: Final = 500
HOSTILE_PER_SECOND: Final = 2
"""Of one kind, on one connection; an attacker with a slow line sends as many."""


@dataclass(frozen=True)
class Hostile:
    """One kind of body."""

    name: str
    body: bytes
    route: str = "mutate"
    want: str = '"allowed":false'
    """What a right answer has in it."""


def bodies() -> Iterator[Hostile]:
    """Every kind."""
    near = names.ANNOTATION_EGRESS_BANDWIDTH.removeprefix(f"{names.DOMAIN}/")[1:-1]
    crowd = {f"{names.DOMAIN}/{n:05d}{near}": "" for n in range(8700)}
    yield Hostile("8,700 near-miss annotations, created", _pod(crowd))
    yield Hostile("the same, updated from none", _pod(crowd, old={}))
    yield Hostile("the same, updated from as many", _pod(crowd, old=crowd), want='"allowed":true')
    yield Hostile("the same, as a dry run", _pod(crowd, dry_run=True))
    very = {f"{names.DOMAIN}/{n:06d}{near}": "" for n in range(85_000)}
    yield Hostile("3 MB of near-miss annotations, created", _pod(very))
    yield Hostile("the same, updated from as many", _pod(very, old=very))
    yield Hostile("a policy of 150,000 keys", _policy(150_000), "validate")
    yield Hostile("20 MB with escapes", _escapes(20_000_000), want='"patch":')
    yield Hostile("30 MB, more than is judged", _escapes(30_000_000))


def measure(folder: Path, subject: Subject, seconds: int) -> list[tuple[str, dict[str, Any]]]:
    """Each kind beside ordinary reviews: what both met, and the memory before and after."""
    ordinary = folder / "ordinary.json"
    ordinary.write_bytes(review(6000))
    servers.load(folder, subject, ordinary, ORDINARY_PER_SECOND, 2)
    begin_mib = subject.rss_mib()
    rows = []
    for kind in bodies():
        print(f"{subject.name}, {kind.name}", file=sys.stderr)
        body = folder / "hostile.json"
        body.write_bytes(kind.body)
        with ThreadPoolExecutor() as pool:
            beside = pool.submit(
                servers.load, folder, subject, ordinary, ORDINARY_PER_SECOND, seconds
            )
            hostile = servers.load(
                folder,
                subject,
                body,
                HOSTILE_PER_SECOND,
                seconds,
                route=kind.route,
                connections=1,
                want=kind.want,
            )
        found = beside.result()
        rows.append(
            (
                kind.name,
                {
                    "megabytes": len(kind.body) / 1e6,
                    "hostile": hostile,
                    "ordinary": found,
                    "grown_mib": subject.rss_mib() - begin_mib,
                },
            )
        )
    return rows


def table(name: str, rows: list[tuple[str, dict[str, Any]]]) -> list[str]:
    """Markdown."""
    lines = [
        f"**{name}**",
        "",
        "| body | MB | answered, p50 ms | max ms | wrong | ordinary p50 ms | p99 ms | max ms "
        "| failed | RSS after, MiB more |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for kind, f in rows:
        hostile, ordinary = f["hostile"], f["ordinary"]
        lines.append(
            f"| {kind} | {f['megabytes']:.1f} | {hostile['p50_ms']:.0f} | {hostile['max_ms']:.0f} "
            f"| {hostile['errors']} of {hostile['requests']} | {ordinary['p50_ms']:.2f} "
            f"| {ordinary['p99_ms']:.2f} | {ordinary['max_ms']:.1f} | {ordinary['errors']} "
            f"| {f['grown_mib']:+.1f} |"
        )
    return [*lines, ""]


def _request(**fields: Any) -> bytes:
    request = {"uid": "u", "operation": "CREATE", "namespace": "shop", **fields}
    body = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    return json.dumps(body).encode()


def _pod(
    annotations: dict[str, str], old: dict[str, str] | None = None, *, dry_run: bool = False
) -> bytes:
    both: list[Any] = [
        None if a is None else {"metadata": {"name": "web", "annotations": a}, "spec": {}}
        for a in (annotations, old)
    ]
    operation = "CREATE" if old is None else "UPDATE"
    return _request(object=both[0], oldObject=both[1], operation=operation, dryRun=dry_run)


def _policy(keys: int) -> bytes:
    data = {f"k{n:06d}": "" for n in range(keys)}
    return _request(object={"metadata": {"name": names.POLICY_CONFIG_MAP}, "data": data})


def _escapes(size_bytes: int) -> bytes:
    """An update of a pod with a very long environment variable of ``<``, in both objects."""
    containers = [{"name": "main", "env": [{"name": "X", "value": "@"}]}]
    pod = {
        "metadata": {"name": "web", "annotations": {names.ANNOTATION_EGRESS_BANDWIDTH: "10M"}},
        "spec": {"containers": containers},
    }
    body = _request(object=pod, oldObject=pod, operation="UPDATE")
    return body.replace(b"@", b"\\u003c" * ((size_bytes - len(body)) // 12))
