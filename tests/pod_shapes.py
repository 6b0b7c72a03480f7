"""Pods of all shapes and what becomes of what they request; ``python -m tests.pod_shapes`` writes
the table in docs/user/scheduling.md."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

Json = dict[str, Any]
PAGE: Final = Path(__file__).parents[1] / "docs/user/scheduling.md"
_BETWEEN: Final = re.compile(r"(?<=<!-- shapes -->\n).*?(?=<!-- /shapes -->)", re.DOTALL)
EGRESS: Final = "podpace.io/egress"
LIMIT, REQUEST = "podpace.io/egress-bandwidth", "podpace.io/egress-request"
MIRROR: Final = "kubernetes.io/config.mirror"
REFUSED: Final = "refused"
OVERHEAD_CLASS: Final = "sandboxed"
"""A RuntimeClass that adds 1M to each pod."""


@dataclass(frozen=True)
class Shape:
    """One pod, or a workload with it as template, under the policy ``schedule: "true"``."""

    what: str
    booked: str
    """With the scheduler, of egress; a dash: nothing."""
    requested: str
    limit: str = "-"
    asks: Mapping[str, str] = field(default_factory=lambda: {REQUEST: "20M"})
    spec: Json = field(default_factory=dict)
    kind: str = "Pod"
    policy: Mapping[str, str] = field(default_factory=dict)
    """Besides."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """That the author wrote himself."""

    @property
    def refused(self) -> bool:
        """The webhook does not admit it."""
        return self.booked == REFUSED

    @property
    def is_static(self) -> bool:
        """What the API server has is a kubelet's image of it."""
        return MIRROR in self.asks

    @property
    def pod(self) -> Json:
        """As its author wrote it, and the API server gives it to the webhook."""
        spec = {"containers": [container()]} | self.spec
        labels = {"labels": dict(self.labels)} if self.labels else {}
        return {"metadata": {"annotations": dict(self.asks)} | labels, "spec": spec}


def container(name: str = "main", egress: str = "", **more: Any) -> Json:
    """With a booking of its own, if ``egress`` is one."""
    resources = {"resources": {"limits": {EGRESS: egress}}} if egress else {}
    return {"name": name, "image": "registry.example/app:1"} | resources | more


def sidecar(egress: str = "", name: str = "proxy") -> Json:
    """An init container that goes on."""
    return container(name, egress, restartPolicy="Always")


def _of(*containers: Json, init: tuple[Json, ...] = (), **more: Any) -> Json:
    return (
        {"containers": list(containers)} | ({"initContainers": list(init)} if init else {}) | more
    )


_BOTH: Final = {LIMIT: "100M", REQUEST: "20M"}
_ASKS_LIMIT: Final = {LIMIT: "100M"}
_NOTHING: Final[dict[str, str]] = {}

SHAPES: Final = (
    Shape("request and limit", "20M", "20M", "100M", _BOTH),
    Shape("request without limit", "20M", "20M"),
    Shape("limit without request", "-", "-", "100M", _ASKS_LIMIT),
    Shape("neither", "-", "-", asks=_NOTHING),
    Shape("a request for ingress only", "-", "-", asks={"podpace.io/ingress-request": "20M"}),
    Shape("two containers", "20M", "20M", spec=_of(container(), container("second"))),
    Shape("three containers with cpu limits", "20M", "20M",
          spec=_of(*(container(f"c{n}", resources={"limits": {"cpu": "1"}}) for n in range(3)))),
    Shape("cpu requested only", "20M", "20M",
          spec=_of(container(resources={"requests": {"cpu": "100m"}}))),
    Shape("an init container", "20M", "20M", spec=_of(container(), init=(container("init"),))),
    Shape("a sidecar", "20M", "20M", spec=_of(container(), init=(sidecar(),))),
    Shape("a sidecar, then an init container", "20M", "20M",
          spec=_of(container(), init=(sidecar(), container("init")))),
    Shape("pod-level resources", "20M", "20M",
          spec=_of(container(), resources={"limits": {"cpu": "1", "memory": "64Mi"}})),
    Shape("the pod of a Deployment", "20M", "20M", kind="Deployment"),
    Shape("the pod of a StatefulSet", "20M", "20M", "100M", _BOTH, kind="StatefulSet"),
    Shape("the pod of a DaemonSet", "20M", "20M", kind="DaemonSet"),
    Shape("the pod of a Job", "20M", "20M", spec=_of(container(), restartPolicy="Never"),
          kind="Job"),
    Shape("books itself: 30M", "30M", "30M", asks=_NOTHING, spec=_of(container(egress="30M"))),
    Shape("books itself, with a limit", "30M", "30M", "100M", _ASKS_LIMIT,
          _of(container(egress="30M"))),
    Shape("books itself in two containers: 10M and 20M", "30M", "30M", asks=_NOTHING,
          spec=_of(container(egress="10M"), container("second", "20M"))),
    Shape("books itself: init 50M, container 20M", "50M", "50M", asks=_NOTHING,
          spec=_of(container(egress="20M"), init=(container("init", "50M"),))),
    Shape("books itself: sidecar 3M, then init 4M, container 2M", "7M", "7M", asks=_NOTHING,
          spec=_of(container(egress="2M"), init=(sidecar("3M"), container("init", "4M")))),
    Shape("books itself: init 4M, then sidecar 3M, container 2M", "5M", "5M", asks=_NOTHING,
          spec=_of(container(egress="2M"), init=(container("init", "4M"), sidecar("3M")))),
    Shape("books 30M itself, requests less", "30M", "20M", spec=_of(container(egress="30M"))),
    Shape("books 10M itself, requests more", REFUSED, "-", spec=_of(container(egress="10M"))),
    Shape("books 30M itself, has a lower limit", REFUSED, "-", asks={LIMIT: "10M"},
          spec=_of(container(egress="30M"))),
    Shape("books itself, more than there can be", REFUSED, "-", asks=_NOTHING,
          spec=_of(container(egress="1P"), container("second", "1"))),
    Shape("books itself, nothing", REFUSED, "-", asks=_NOTHING, spec=_of(container(egress="0"))),
    Shape("asks for nothing; the policy's request.default is 5M", "5M", "5M", asks=_NOTHING,
          policy={"egress.request.default": "5M"}),
    Shape("the same, with a lower limit", "2M", "2M", "2M", {LIMIT: "2M"},
          policy={"egress.request.default": "5M"}),
    Shape("the same, and books itself", "30M", "30M", asks=_NOTHING,
          spec=_of(container(egress="30M")), policy={"egress.request.default": "5M"}),
    Shape("requests more than request.max, 8M, which clamps", "8M", "8M",
          policy={"egress.request.max": "8M", "on-violation": "clamp"}),
    Shape("of a RuntimeClass whose overhead is 1M", "21M", "20M",
          spec={"runtimeClassName": OVERHEAD_CLASS, "overhead": {EGRESS: "1M"}}),
    Shape("the same, and books 30M itself", "31M", "31M", asks=_NOTHING,
          spec=_of(container(egress="30M"), runtimeClassName=OVERHEAD_CLASS,
                   overhead={EGRESS: "1M"})),
    Shape("a static pod", "-", "-", asks={MIRROR: "x", REQUEST: "20M"}),
    Shape("a static pod that books itself, with labels", "30M", "20M", asks={MIRROR: "x"},
          spec=_of(container(egress="30M")), labels={
              "podpace.io/limited": "true",
              "podpace.io/egress-request-bits-per-second": "20000000",
              "podpace.io/egress-booked-bits-per-second": "30000000"}),
    Shape("on its node's network", "20M", "20M", spec={"hostNetwork": True}),
    Shape("on nodes without an enforcer", "-", "20M",
          spec={"nodeSelector": {"kubernetes.io/os": "windows"}}),
    Shape("the policy only observes", "-", "20M", policy={"mode": "observe"}),
    Shape("the policy has no schedule", "-", "20M", policy={"schedule": "false"}),
    Shape("the same, and books itself", "30M", "20M", spec=_of(container(egress="30M")),
          policy={"schedule": "false"}),
)  # fmt: skip


def table() -> str:
    """As Markdown."""
    return "".join(
        (
            "| pod | booked | requested | limit |\n|---|---|---|---|\n",
            *(f"| {s.what} | {s.booked} | {s.requested} | {s.limit} |\n" for s in SHAPES),
        )
    )


def pages() -> Iterator[str]:
    """The page as it is, and as it should be."""
    text = PAGE.read_text()
    yield text
    yield _BETWEEN.sub(table(), text)


if __name__ == "__main__":
    PAGE.write_text([*pages()][1])
