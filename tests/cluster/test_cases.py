"""The table of cases, through the real API server and through ``review``: the same answer."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cases import BAD_POLICIES, CASES, OUR, STANDARD, Case, Json
from tests.cluster.client import warnings
from tests.cluster.install import RELEASE_NAMESPACE, Installation, pod
from webhook.review import DENIED, Options, review

# Rows with the same cluster policy stand together, so that it changes as seldom as can be.
_ORDERED = sorted(CASES, key=lambda c: json.dumps(c.cluster or {}, sort_keys=True))
_DENIED = 'admission webhook "pods.podpace.io" denied the request: '


def _namespace(case: Case) -> str:
    return f"case-{CASES.index(case)}"


def _key(name: str) -> str:
    return name if "/" in name else OUR + name


@pytest.fixture(scope="module")
def seeded(installation: Installation) -> Iterator[Installation]:
    """A namespace with its policy for every row that needs one."""
    for case in CASES:
        if case.namespace is not None:
            name = _namespace(case)
            installation.admin.create("/api/v1/namespaces", {"metadata": {"name": name}})
            installation.set_policy(name, case.namespace)
    yield installation
    if installation.in_force:
        installation.set_policy(RELEASE_NAMESPACE, None)


def _manifest(case: Case) -> Json:
    annotations = {_key(key): value for key, value in case.pod.items()}
    return pod(annotations or None, labels=case.labels_before, **case.spec)


def _ours(found: dict[str, str] | None) -> dict[str, str]:
    return {k: v for k, v in (found or {}).items() if k.startswith((OUR, STANDARD))}


def _policy(namespace: str, data: dict[str, str]) -> Json:
    metadata = {"name": "podpace-policy", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def _review(tmp_path: Path, namespace: str, *documents: Json) -> tuple[int, list[Json]]:
    file = tmp_path / "input.yaml"
    # JSON, since every reader takes its texts for texts.
    file.write_text("\n---\n".join(map(json.dumps, documents)))
    code, text = review([str(file)], Options(namespace, RELEASE_NAMESPACE, "json"))
    verdicts: list[Json] = json.loads(text)
    return code, verdicts


@pytest.mark.parametrize("case", _ORDERED, ids=lambda c: c.rule)
def test_server_and_review_give_the_answer_of_the_table(
    case: Case, seeded: Installation, tmp_path: Path
) -> None:
    """Labels, annotations, gates, warnings or the denial are those of the row, in both."""
    if (seeded.in_force or None) != (case.cluster or None):
        seeded.set_policy(RELEASE_NAMESPACE, case.cluster)
    namespace = _namespace(case) if case.namespace is not None else "default"
    manifest = _manifest(case)

    response = seeded.admin.http.post(f"/api/v1/namespaces/{namespace}/pods", json=manifest)
    policies = [
        _policy(n, d)
        for n, d in ((namespace, case.namespace), (RELEASE_NAMESPACE, case.cluster))
        if d is not None
    ]
    code, verdicts = _review(tmp_path, namespace, manifest, *policies)
    verdict = next(v for v in verdicts if v["kind"] == "Pod")

    told = warnings(response)
    assert verdict["warnings"] == told
    assert len(told) == len(case.warned)
    assert all(part in text for part, text in zip(case.warned, told, strict=True))
    if case.denied:
        message = response.json()["message"]
        assert response.status_code == 403
        assert message == _DENIED + verdict["message"]
        assert code == DENIED
        positions = [message.find(part) for part in case.denied]
        assert -1 not in positions, message
        assert all(a <= b for a, b in itertools.pairwise(positions)), message
        return
    assert response.status_code == 201, response.text
    made = response.json()
    seeded.admin.delete(f"/api/v1/namespaces/{namespace}/pods/{made['metadata']['name']}")
    labels = {OUR + key: value for key, value in case.labels.items()}
    foreign = {k: v for k, v in (case.labels_before or {}).items() if not k.startswith(OUR)}
    annotations = (
        case.annotations
        if case.annotations is not None
        else {_key(k): v for k, v in case.pod.items()}
    )
    assert made["metadata"].get("labels", {}) == labels | foreign
    assert _ours(made["metadata"].get("annotations")) == _ours(annotations)
    assert made["spec"].get("readinessGates", []) == case.gates
    assert code == 0
    assert verdict["labels"] == labels
    # What came out needs no change: the decision is idempotent.
    _, [again, *_] = _review(tmp_path, namespace, made, *policies)
    assert again["patch"] == []


@pytest.mark.parametrize("rule", BAD_POLICIES)
def test_bad_policies_are_refused_with_their_reason(
    rule: str, installation: Installation, tmp_path: Path
) -> None:
    """The server and ``review`` refuse a bad policy and say what to write instead."""
    data, parts = BAD_POLICIES[rule]
    policy = _policy("default", data)

    response = installation.admin.http.post("/api/v1/namespaces/default/configmaps", json=policy)
    code, [verdict] = _review(tmp_path, "default", policy)

    message = response.json()["message"]
    assert response.status_code == 403
    assert code == DENIED
    assert message.endswith(verdict["message"])
    assert all(part in message for part in parts), message


def test_the_table_is_large_enough() -> None:
    """No row may be lost unseen."""
    assert len({case.rule for case in CASES}) == len(CASES)
    assert len(CASES) >= 60
