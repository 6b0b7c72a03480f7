"""The daemon's real process, a fake kernel: socket, signals, restart, metrics."""

import contextlib
import json
import signal
import socket
import stat
import subprocess
import threading
import urllib.error
import urllib.request

import httpx
import psutil
import pytest

from tests.processes import HANGS_SECONDS, ROOT, enforcer, enforcer_command, fake_machine

LIMIT = {"ingress": "10M", "egress": "5M"}


@pytest.fixture
def http(process):
    """The control socket, as HTTP."""
    transport = httpx.HTTPTransport(uds=str(process.socket))
    with httpx.Client(
        transport=transport, base_url="http://daemon", timeout=HANGS_SECONDS
    ) as client:
        yield client


def _once(work, *more):
    """Run the daemon to its end: exit code, standard error."""
    done = subprocess.run(
        enforcer_command(work, *more),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stderr


def test_only_root_may_use_the_socket(process):
    """Mode 0600, in a folder that all may enter."""
    assert stat.S_IMODE(process.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(process.socket.parent.stat().st_mode) == 0o755


def test_a_limit_is_set_shown_and_removed(http):
    """The routes of contract.api."""
    put = http.put("/targets/cgroup%3A%2Fpod", json=LIMIT)

    assert put.status_code == 200
    assert put.json()["egress"]["bits_per_second"] == 5_000_000
    assert http.get("/targets/%2Fpod").json() == put.json()
    assert http.get("/targets").json() == {"targets": [put.json()]}
    assert http.delete("/targets/%2Fpod").status_code == 204
    assert http.get("/targets").json() == {"targets": []}
    assert http.get("/targets/%2Fpod").status_code == 404


def test_health_tells_what_the_kernel_can_do(http):
    """With the reason where it cannot."""
    health = http.get("/healthz").json()

    assert health["features"]["iterator"] == "this kernel has none"
    assert health["cgroup_root"].endswith("/cgroup")


@pytest.mark.parametrize(
    ("body", "key"),
    [
        (b"{", "body"),
        (b"[]", "body"),
        (b'{"ingress": 10}', "body"),
        (b'{"mode": "sometimes"}', "body"),
        (b'{"egres": "10M"}', "egres"),
        (b"\xff\xfe", "body"),
        (b"{" + b" " * 70000 + b"}", "body"),
    ],
)
def test_a_body_that_cannot_be_read_changes_nothing(http, body, key):
    """422, with what is wrong; a misspelt field does not lift the other direction's limit."""
    http.put("/targets/%2Fpod", json=LIMIT)

    answer = http.put("/targets/%2Fpod", content=body)

    assert answer.status_code == 422
    assert answer.json()["problems"][0]["key"] == key
    assert http.get("/targets/%2Fpod").json()["ingress"]["bits_per_second"] == 10_000_000


def test_what_the_kernel_refuses_is_a_409(process, http):
    """With the datapath's own words."""
    process.process.send_signal(signal.SIGUSR1)
    while (answer := http.put("/targets/%2Fpod", json=LIMIT)).status_code == 200:
        http.delete("/targets/%2Fpod")

    assert answer.status_code == 409
    assert "the kernel said EINVAL" in answer.json()["problems"][0]["reason"]


def test_a_client_that_hangs_up_is_harmless(process, http):
    """In the headers, in the body, and before the answer."""
    head = b"PUT /targets/%2Fpod HTTP/1.1\r\nHost: x\r\nContent-Length: 30\r\n\r\n"
    whole = json.dumps({"egress": "10M"}).encode().ljust(30)
    for part in (b"PUT /tar", head, head + whole[:10], head + whole):
        with socket.socket(socket.AF_UNIX) as rude:
            rude.connect(str(process.socket))
            rude.sendall(part)

    assert http.get("/healthz").status_code == 200
    process.wait_for("attached")  # the last one's request was whole, so it was served


def test_many_clients_at_once_are_served_one_after_another(process, tmp_path):
    """Every request is answered, and the end state is one of those asked for."""
    (tmp_path / "cgroup/other").mkdir()
    statuses: list[int] = []

    def ask(number: int) -> None:
        transport = httpx.HTTPTransport(uds=str(process.socket))
        with httpx.Client(
            transport=transport, base_url="http://daemon", timeout=HANGS_SECONDS
        ) as client:
            for i in range(10):
                target = ("%2Fpod", "%2Fother")[i % 2]
                body = {"egress": f"{number + 1}M"}
                statuses.append(client.put(f"/targets/{target}", json=body).status_code)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert statuses == [200] * 40
    listed = json.loads(process.client("list", "-o", "json").stdout)["targets"]
    assert [t["target"] for t in listed] == ["cgroup:/other", "cgroup:/pod"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_end_detaches_nothing_and_a_restart_goes_on(tmp_path, number):
    """Exit code 0, socket gone, limits still wanted."""
    (fake_machine(tmp_path) / "pod").mkdir()
    with enforcer(tmp_path) as daemon:
        daemon.client("attach", "/pod", "--egress", "5M")
        assert daemon.stop(number) == 0
        assert daemon.wait_for("stopped")["targets_still_limited"] == 1
        assert not daemon.socket.exists()
    with enforcer(tmp_path) as daemon:
        assert "cgroup:/pod" in daemon.client("list").stdout


def test_a_killed_daemon_leaves_a_socket_that_the_next_one_replaces(tmp_path):
    """Nobody answers on it."""
    fake_machine(tmp_path)
    with enforcer(tmp_path) as daemon:
        daemon.stop(signal.SIGKILL)
        assert daemon.socket.exists()
    with enforcer(tmp_path) as daemon:
        assert daemon.client("list").returncode == 0


def test_a_second_daemon_is_refused_and_the_first_goes_on(process, tmp_path):
    """One line, exit code 1; --cleanup under a running daemon too."""
    for more in ([], ["--cleanup"]):
        code, error = _once(tmp_path, *more)
        assert code == 1
        assert error.startswith("podpace-enforcer: another daemon answers on ")
        assert error.count("\n") == 1
    assert process.client("list").returncode == 0


def test_two_daemons_never_share_a_state_folder(process, tmp_path):
    """Also where each has a socket of its own: they would undo each other's limits."""
    code, error = _once(tmp_path, "--socket", str(tmp_path / "other.sock"))

    assert code == 1
    assert "another daemon keeps its targets in" in error
    assert process.client("list").returncode == 0


def test_a_file_in_the_socket_s_place_is_not_removed(tmp_path):
    """It may be somebody's."""
    fake_machine(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/e.sock").write_text("mine")

    code, error = _once(tmp_path)

    assert code == 1
    assert "is there and is no socket; give another --socket" in error
    assert (tmp_path / "run/e.sock").read_text() == "mine"


def test_cleanup_says_that_nothing_is_left(tmp_path):
    """Exit code 0."""
    fake_machine(tmp_path)
    done = subprocess.run(
        enforcer_command(tmp_path, "--cleanup"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "nothing of ours is left"


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (["--cgroup-root", "/"], "--cgroup-root / is not a folder of cgroup v2; see: "),
        (["--socket", "/" + "x" * 120], "use a shorter path"),
        (["--metrics-address", "192.0.2.1:9"], "give another --metrics-address"),
        (["--state-dir", "/proc/none"], "/proc/none"),
    ],
)
def test_a_daemon_that_cannot_start_says_why_in_one_line(tmp_path, more, line):
    """Exit code 1, no traceback."""
    fake_machine(tmp_path)

    code, error = _once(tmp_path, *more)

    assert code == 1
    assert line in error
    assert error.startswith("podpace-enforcer: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "run/e.sock").exists()


@pytest.mark.parametrize("address", ["9464", ":9464", "host:", "host:x", "host:70000"])
def test_a_wrong_metrics_address_is_a_usage_error(tmp_path, address):
    """Exit code 2, with an example."""
    fake_machine(tmp_path)

    code, error = _once(tmp_path, "--metrics-address", address)

    assert code == 2
    assert "is no HOST:PORT; write one such as 127.0.0.1:9464" in error


def test_clients_of_the_metrics_port_never_reach_the_control_socket(tmp_path):
    """300 idle connections and 300 half requests: requests are served, the daemon is alive, and
    its descriptors stay few."""
    (fake_machine(tmp_path) / "pod").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (
        enforcer(tmp_path, "--metrics-address", f"127.0.0.1:{port}") as daemon,
        contextlib.ExitStack() as stack,
    ):
        idle = psutil.Process(daemon.process.pid).num_fds()
        for number in range(600):
            rude = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
            if number % 2:
                rude.sendall(b"GET /metrics HT")
        attached = daemon.client("attach", "/pod", "--egress", "8M")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=60) as answer:
            alive = answer.read()
        used = psutil.Process(daemon.process.pid).num_fds() - idle

    assert attached.returncode == 0
    assert alive == b"ok\n"
    assert used <= 20


def test_metrics_are_served_where_asked(tmp_path):
    """With health beside them, and not on the control socket."""
    (fake_machine(tmp_path) / "pod").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with enforcer(tmp_path, "--metrics-address", f"127.0.0.1:{port}") as daemon:
        daemon.client("attach", "/pod", "--egress", "8M")
        bodies = {}
        for path in ("metrics", "livez", "readyz"):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}") as answer:
                bodies[path] = answer.read().decode()
        with pytest.raises(urllib.error.HTTPError) as missing:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/targets")
        missing.value.close()

    assert "podpace_targets 1.0" in bodies["metrics"]
    assert (bodies["livez"], bodies["readyz"]) == ("ok\n", "ok\n")
    assert missing.value.code == 404
