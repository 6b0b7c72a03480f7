"""What others wrote into a cluster is shown, and commands no terminal."""

import json

import pytest

from client.errors import UsageError
from client.kube import output
from client.kube.flags import take
from client.kube.pods import Condition, PodLimits, decode_pod
from client.kube.watching import Changed
from client.output import console, make_table, name_command, print_problems, printable
from contract.limits import Limit
from kube.kubeconfig import Changes

WRITTEN = [
    ("[/x]", "[/x]"),
    ("cannot reach [fd00::1]:80", "cannot reach [fd00::1]:80"),
    ("[bold red]no[/]", "[bold red]no[/]"),
    (":skull: :warning:", ":skull: :warning:"),
    ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
    ("\x1b[2J", r"\x1b[2J"),
    ("one\r\ntwo", r"one\r\ntwo"),
    ("\x9b31m", r"\x9b31m"),
    ("pay\u202etxt", r"pay\u202etxt"),
    ("a\u2028b\u200b", r"a\u2028b\u200b"),
    ("naïve 日本 é", "naïve 日本 é"),
]


def pod(message: str = "", *, bits: int = 10_000_000) -> PodLimits:
    """With a text that its node's enforcer, or somebody else, wrote."""
    return PodLimits(
        namespace="shop",
        name="web",
        node="node-a",
        phase="Running",
        ready=True,
        ingress=None,
        egress=Limit(bits, 1000),
        source="pod",
        mode="enforce",
        exempt_cidrs=(),
        gated=False,
        condition=Condition("True", message, message, "2026-01-01T00:00:00Z"),
        annotations={"podpace.io/egress-bandwidth": message},
    )


@pytest.mark.parametrize(("written", "shown"), WRITTEN, ids=[s for _, s in WRITTEN])
def test_text_of_others_is_shown_as_it_is_or_escaped(
    written: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In lines, in tables, in `show` and `list`, and among problems."""
    assert printable(written) == shown
    console().print(f"said: {written}", soft_wrap=True)
    table = make_table("WHAT")
    table.add_row(written)
    console().print(table)
    output.print_pod(pod(written), None)
    output.print_pods((pod(written),), all_namespaces=True)
    print_problems([written])

    out, err = capsys.readouterr()
    assert f"said: {shown}\n" in out
    assert out.count(shown) >= 6
    assert shown in err
    assert all(c == "\n" or c.isprintable() for c in out + err)


def test_problems_begin_with_the_command_that_was_called(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """There are two."""
    name_command("kubectl podpace")
    print_problems(["no"])
    name_command("podpace")
    print_problems(["no"])

    assert capsys.readouterr().err == "kubectl podpace: no\npodpace: no\n"


def test_rows_without_headers_are_for_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    """As kubectl's."""
    output.print_pods((pod("ok"),), all_namespaces=False, headers=False)

    assert capsys.readouterr().out.split()[0] == "web"


def test_a_watched_pod_is_shown_when_its_row_changes() -> None:
    """Not at each of its status updates, nor again after the watch was away."""
    seen: list[int] = []
    first = pod("ok")
    sink = Changed(
        [first], lambda p: seen.append(0 if p.egress is None else p.egress.bits_per_second)
    )

    sink.replace([first])
    sink.put(pod("ok"))
    sink.put(pod("ok", bits=5))
    sink.replace([pod("ok", bits=5), pod("ok", bits=6)])
    sink.remove(pod("ok", bits=6))
    sink.put(pod("ok", bits=6))

    assert seen == [5, 6, 6]
    assert (
        decode_pod(json.dumps({"metadata": {"name": "a", "namespace": "b"}}).encode()).name == "a"
    )


def test_connection_flags_stand_anywhere() -> None:
    """Before and after the command, with a space or an equals sign, as kubectl takes them."""
    given = (
        "--as=jane list -A --as-group a --token t --as-group=b -o json --request-timeout=2m "
        "--insecure-skip-tls-verify --user u"
    )
    flags, left = take(given.split())

    assert left == ["list", "-A", "-o", "json"]
    assert flags.timeout_seconds == 120
    assert flags.changes == Changes(
        user="u", token="t", impersonate_user="jane", impersonate_groups=("a", "b"), insecure=True
    )


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", None), ("5", 5), ("5s", 5), ("100ms", 0.1), ("1.5h", 5400)]
)
def test_a_timeout_is_written_as_kubectl_s(text: str, seconds: float | None) -> None:
    """0 is none of one's own."""
    assert take([f"--request-timeout={text}"])[0].timeout_seconds == seconds


@pytest.mark.parametrize(
    "wrong", [["--request-timeout=soon"], ["--request-timeout=-1"], ["--token"]]
)
def test_a_flag_that_cannot_be_read_is_a_usage_error(wrong: list[str]) -> None:
    """Exit code 2."""
    with pytest.raises(UsageError) as caught:
        take(wrong)

    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("list -n=prod -l=app=web,a!=b -o=json", "list -n prod -l app=web,a!=b -o json"),
        ("list --namespace=prod -nprod -A", "list --namespace=prod -nprod -A"),
        ("list -- -n=prod", "list -- -n=prod"),
    ],
)
def test_short_options_are_read_as_kubectl_reads_them(given: str, read: str) -> None:
    """Not as a namespace that is called =prod."""
    _, left = take(given.split())

    assert left == read.split()
