"""The examples of refused pods and policies in docs/ are what the webhook says, word for word."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from contract.effective import EffectivePolicy
from contract.merging import Layer, merge
from contract.names import Source
from contract.policy import Scope, parse_policy
from contract.reading import read
from webhook.booking import bookings_of
from webhook.checks import CHECKS
from webhook.mutation import decide, denial_message
from webhook.policy_review import policy_denial_message, review_policy
from webhook.reviews import ConfigMap, Pod

DOCS = Path(__file__).parents[3] / "docs"
_BLOCK = re.compile(
    r"^```(yaml policy(?: cluster| selected)?|yaml pod|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL
)


def examples(page: str) -> dict[str, dict[str, str]]:
    """Section by title, each with its blocks by kind."""
    sections = (DOCS / page).read_text().split("\n## ")[1:]
    return {s.splitlines()[0]: dict(_BLOCK.findall(s)) for s in sections}


PODS = examples("user/refused.md")
POLICIES = examples("operator/refused-policies.md")


def _pod(blocks: dict[str, str]) -> tuple[Pod, EffectivePolicy]:
    data: dict[str, Any] = yaml.safe_load(blocks.get("yaml policy", "{}"))
    policy, problems = parse_policy(data)
    assert problems == ()
    own = Layer("default", "podpace-policy", Source.NAMESPACE, policy)
    found = yaml.safe_load(blocks["yaml pod"])
    metadata, spec = {"annotations": found["annotations"]}, found.get("spec", {})
    return msgspec.convert({"metadata": metadata, "spec": spec}, Pod), merge(own, ())


@pytest.mark.parametrize("title", PODS)
def test_a_refused_pod_reads_what_the_page_says(title: str) -> None:
    """Key, text, reason and fix."""
    pod, policy = _pod(PODS[title])

    problems = decide(pod, policy).problems

    assert denial_message(problems, "the pod's bandwidth") + "\n" == PODS[title]["text"]


@pytest.mark.parametrize("title", POLICIES)
def test_a_refused_policy_reads_what_the_page_says(title: str) -> None:
    """Key, text, reason and fix."""
    [(kind, text)] = [(k, v) for k, v in POLICIES[title].items() if k.startswith("yaml policy")]
    scope = Scope[kind.split()[2].upper()] if kind.count(" ") > 1 else Scope.NAMESPACE

    policy = msgspec.convert({"data": yaml.safe_load(text)}, ConfigMap)
    problems, _ = review_policy(policy, scope, ())

    assert policy_denial_message(problems) + "\n" == POLICIES[title]["text"]


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
def test_every_check_has_an_example(check: Any) -> None:
    """A new check needs a section of its own."""
    found = []
    for blocks in PODS.values():
        pod, policy = _pod(blocks)
        reading = read(pod.metadata.annotations or {}, bookings=bookings_of(pod, {}))
        found += list(check(reading, policy))

    assert found
