"""Random reviews to the real server over TLS, and random quantities to the parser.

``PODPACE_FUZZ_EXAMPLES=100000`` makes a long run of it.
"""

import base64
import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path

import psutil
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certs.authority import issue_leaf, make_authority, utc_now
from contract.problems import Problem
from contract.quantity import parse_bits_per_second, parse_value
from tests.unit.webhook.fuzzing import CLUSTER, NAMESPACES, Json, envelope, judge, reviews

EXAMPLES = int(os.environ.get("PODPACE_FUZZ_EXAMPLES", "500"))
MEMORY_BYTES = 30 * 1024 * 1024
fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


class Server:
    """``podpace-webhook serve --policy-dir`` and one connection to it."""

    def __init__(self, folder: Path) -> None:
        authority = make_authority(utc_now())
        leaf = issue_leaf(authority, ["localhost"], utc_now())
        (folder / "tls.crt").write_bytes(leaf.certificate)
        (folder / "tls.key").write_bytes(leaf.key)
        policies = [
            {
                "kind": "ConfigMap",
                "metadata": {"name": "podpace-policy", "namespace": namespace},
                "data": rules.data,
            }
            for namespace, rules in [("podpace-system", CLUSTER), *NAMESPACES.items()]
        ]
        (folder / "policies").mkdir()
        (folder / "policies" / "all.yaml").write_text(yaml.safe_dump_all(policies))
        self._errors = folder / "stderr"
        self.port, self.health_port = _free_port(), _free_port()
        with self._errors.open("wb") as errors, (folder / "stdout").open("wb") as output:
            self.process = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "KILL"),
                    *(sys.executable, "-m", "webhook", "serve", "--host=127.0.0.1"),
                    *(f"--port={self.port}", f"--health-port={self.health_port}"),
                    f"--policy-dir={folder / 'policies'}",
                    *(f"--tls-cert={folder / 'tls.crt'}", f"--tls-key={folder / 'tls.key'}"),
                    *("--drain-seconds=0", "--log-level=error"),
                ],
                stdout=output,
                stderr=errors,
            )
        context = ssl.create_default_context(cadata=authority.certificate.decode())
        self._connection = http.client.HTTPSConnection("localhost", self.port, context=context)
        self._wait_ready()

    def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """One request; a closed connection is opened again."""
        self._connection.request("POST", path, body, {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        return response.status, response.read()

    def review(self, request: Json) -> tuple[Json, list[Json]]:
        """The response and its patch."""
        status, content = self.post("/mutate", json.dumps(envelope(request)).encode())
        assert status == 200, content
        response = json.loads(content)["response"]
        patch = response.get("patch")
        return response, json.loads(base64.b64decode(patch)) if patch else []

    def memory_bytes(self) -> int:
        """Resident memory."""
        rss: int = psutil.Process(self.process.pid).memory_info().rss
        return rss

    def stop(self) -> str:
        """End it; what it wrote to standard error."""
        self._connection.close()
        self.process.terminate()
        assert self.process.wait(20) == 0
        return self._errors.read_text()

    def _wait_ready(self) -> None:
        for _ in range(400):
            try:
                self._connection.connect()
            except OSError:
                assert self.process.poll() is None, self._errors.read_text()
                time.sleep(0.05)
            else:
                return
        pytest.fail("not ready in 20 s")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all examples; it must survive them with its memory flat."""
    started = Server(tmp_path_factory.mktemp("fuzz"))
    for number in range(500):
        started.review({"uid": str(number), "operation": "CREATE", "namespace": "plain"})
    before = started.memory_bytes()
    yield started
    grown = started.memory_bytes() - before
    print(f"memory grew by {grown / 1024:.0f} KiB to {started.memory_bytes() / 1024:.0f} KiB")
    assert started.stop() == ""
    assert grown < MEMORY_BYTES


@given(request=reviews)
@fuzz
def test_no_answer_breaks_a_rule_of_the_policy(server: Server, request: Json) -> None:
    """No error, nothing allowed that the policy forbids, and our own result is left alone."""
    response, patch = server.review(request)

    changed = judge(request, response, patch)

    if changed is not None and request["operation"] == "CREATE":
        again, more = server.review(request | {"object": changed})
        assert again["allowed"]
        assert more == []


_SEED = json.dumps(
    envelope(
        {
            "uid": "u",
            "operation": "CREATE",
            "namespace": "bounded",
            "object": {"metadata": {"annotations": {"podpace.io/egress-bandwidth": "1M"}}},
        }
    )
).encode()


@given(
    path=st.sampled_from(["/mutate", "/validate"]),
    cut=st.tuples(st.integers(0, len(_SEED)), st.integers(0, 40)),
    put=st.one_of(
        st.binary(max_size=30),
        st.sampled_from([b"\\ud800", b"[" * 5000, b'{"a":' * 5000, b"\x00", b"1e999", b"null"]),
    ),
)
@fuzz
def test_damaged_bytes_are_a_bad_request_or_a_review(
    server: Server, path: str, cut: tuple[int, int], put: bytes
) -> None:
    """Never a 5xx and never a closed door."""
    at, length = cut

    status, _ = server.post(path, _SEED[:at] + put + _SEED[at + length :])

    assert status in (200, 400)


@given(text=st.one_of(st.text(max_size=30), st.from_regex(r"[-+]?[0-9.]{1,20}[a-zA-Z0-9+-]{0,5}")))
@fuzz
def test_any_text_is_a_limit_or_a_problem(text: str) -> None:
    """The parser never raises, and what it takes is within bounds."""
    value = parse_bits_per_second("k", text)

    assert isinstance(value, Problem) or 1000 <= value <= 10**15


@given(text=st.from_regex(r"[0-9]{1,12}(\.[0-9]{0,6})?([eE][-+]?[0-9]{1,2})?", fullmatch=True))
@fuzz
def test_decimal_numbers_are_read_as_decimal_reads_them(text: str) -> None:
    """Another implementation of the same grammar, rounded up as Kubernetes does."""
    try:
        exact = Decimal(text)
    except InvalidOperation:
        pytest.fail(text)

    assert parse_value(text) == int(exact.to_integral_value("ROUND_CEILING"))
