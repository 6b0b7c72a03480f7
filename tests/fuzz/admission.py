"""Coverage-guided fuzzing of the bytes that reach the webhook and of the quantity parser.

    pip install -e '.[fuzz]'
    python -m tests.fuzz.admission review -runs=100000
    python -m tests.fuzz.admission quantity -runs=1000000

Options behind the target are libFuzzer's. It ends with an error at the first input that raises
anything but the one error a handler may raise, or gets an answer that is none.
"""

import json
import sys
from collections.abc import Callable

import atheris

with atheris.instrument_imports(include=["contract", "webhook"]):
    from contract.problems import Problem
    from contract.quantity import parse_bits_per_second, parse_burst_bits
    from webhook.admission import UnusableReviewError, make_mutate, make_validate
    from webhook.log import configure
    from webhook.metrics import Metrics
    from webhook.policies import PolicyKey, PolicyStore

SEED = b"""{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u",
"operation":"UPDATE","namespace":"n","object":{"metadata":{"name":"podpace-policy","annotations":
{"podpace.io/ingress-bandwidth":"10M","podpace.io/egress-burst":"1M"},"labels":null},"data":{"mode":
"observe"},"spec":{"readinessGates":[{"conditionType":"x"}]}},"oldObject":null}}"""


def _reviews() -> Callable[[bytes], None]:
    configure("error")
    store = PolicyStore("podpace-system", without_cluster=True)
    policy = {"egress.max": "1G", "require": "any", "take-over": "true"}
    store.replace({PolicyKey("podpace-system"): policy})
    metrics = Metrics()
    handlers = make_mutate(store, metrics), make_validate(store, "podpace-system", metrics)

    def one(data: bytes) -> None:
        for handler in handlers:
            try:
                answer = handler(data)
            except UnusableReviewError:
                continue
            assert isinstance(json.loads(answer)["response"]["allowed"], bool)

    return one


def _quantities() -> Callable[[bytes], None]:
    def one(data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        rate, burst = parse_bits_per_second("k", text), parse_burst_bits("k", text)
        assert isinstance(rate, Problem) or 1000 <= rate <= 10**15
        assert isinstance(burst, Problem) or 12304 <= burst <= 10**15

    return one


TARGETS = {"review": _reviews, "quantity": _quantities}


def main() -> None:
    """Runs one target."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python -m tests.fuzz.admission {'|'.join(TARGETS)} [-runs=N …]")
    target = TARGETS[sys.argv.pop(1)]()
    target(SEED)
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
