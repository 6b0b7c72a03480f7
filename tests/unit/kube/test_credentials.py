"""Where the API server is and who we are: kubeconfigs as kubectl reads them, and the pod's own."""

import base64
import json
import os
import subprocess
import sys

import pytest
import yaml

from certs.authority import make_authority, utc_now
from kube.credentials import TokenFile, in_pod, proxy_for
from kube.errors import NoClusterError
from kube.kubeconfig import read
from kube.proxies import bypasses


def config(tmp_path, name="config", *, context="c", current="c", cluster=None, user=None, **more):
    """A file with one context."""
    path = tmp_path / name
    content = {
        "current-context": current,
        "clusters": [{"name": "k", "cluster": {"server": "https://one:6443/"} | (cluster or {})}],
        "users": [{"name": "u", "user": user or {}}],
        "contexts": [{"name": context, "context": {"cluster": "k", "user": "u"} | more}],
    }
    path.write_text(yaml.safe_dump(content))
    return path


def test_the_current_context_is_read(tmp_path):
    """Server without a slash at its end, token, namespace."""
    found = read((config(tmp_path, user={"token": "t"}, namespace="shop"),), None)

    assert (found.server, found.namespace) == ("https://one:6443", "shop")
    assert found.headers() == {"Authorization": "Bearer t"}


def test_of_several_files_the_first_that_says_something_is_right(tmp_path):
    """And those that are missing are passed over, as kubectl does with KUBECONFIG."""
    first = config(tmp_path, "first", current="", context="a", user={"token": "1"})
    second = config(tmp_path, "second", current="b", context="b", user={"token": "2"})

    found = read((tmp_path / "none", first, second), None, may_be_missing=True)

    assert found.headers() == {"Authorization": "Bearer 1"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "cannot be read"),
        ("[]", "it is not a mapping"),
        ("", "no current-context"),
        ("current-context: x", "no context 'x'"),
        ("{current-context: x, contexts: [{name: x, context: {cluster: y}}]}", "names no cluster"),
    ],
)
def test_what_cannot_be_used_is_said(tmp_path, content, says):
    """With the file's name."""
    path = tmp_path / "config"
    path.write_text(content)

    with pytest.raises(NoClusterError, match=says) as error:
        read((path,), None)

    assert str(path) in str(error.value)


def test_authorities_and_keys_are_data_or_files_beside_the_kubeconfig(tmp_path):
    """Paths are relative to the file that names them."""
    pair = make_authority(utc_now())
    (tmp_path / "ca.crt").write_bytes(pair.certificate)
    (tmp_path / "u.key").write_bytes(pair.key)
    cluster = {"certificate-authority": "ca.crt", "tls-server-name": "api"}
    user = {
        "client-certificate-data": base64.b64encode(pair.certificate).decode(),
        "client-key": "u.key",
    }

    found = read((config(tmp_path, cluster=cluster, user=user),), None)

    assert found.tls is not None
    assert [len(found.tls.get_ca_certs()), found.tls_server_name] == [1, "api"]
    broken = config(tmp_path, cluster={"certificate-authority-data": "eA=="})
    with pytest.raises(NoClusterError, match="certificate authority"):
        read((broken,), None)


def test_a_password_and_another_user(tmp_path):
    """As headers."""
    user = {"username": "me", "password": "pass", "as": "you"}

    headers = read((config(tmp_path, user=user),), None).headers()

    assert headers == {"Authorization": "Basic bWU6cGFzcw==", "Impersonate-User": "you"}


def plugin(tmp_path, status):
    """A user whose command says ``status`` and counts how often it was called."""
    script = (
        "import json, os, sys; open(sys.argv[1], 'a').write('x'); "
        "asked = json.loads(os.environ['KUBERNETES_EXEC_INFO']); "
        f"print(json.dumps(asked | {{'status': {status!r}}}))"
    )
    return {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": sys.executable,
            "args": ["-c", script, str(tmp_path / "calls")],
            "env": [{"name": "A", "value": "b"}],
        }
    }


@pytest.mark.parametrize(
    ("until", "calls"), [("2999-01-01T00:00:00Z", 1), ("2020-01-01T00:00:00Z", 2)]
)
def test_a_command_gives_the_token_until_it_expires(tmp_path, until, calls):
    """As cloud providers' kubeconfigs have it."""
    user = plugin(tmp_path, {"token": "t", "expirationTimestamp": until})
    found = read((config(tmp_path, user=user, cluster={"server": "http://x"}),), None)

    tokens = [found.headers(), found.headers()]

    assert tokens == [{"Authorization": "Bearer t"}] * 2
    assert len((tmp_path / "calls").read_text()) == calls


def test_a_command_that_is_missing_or_fails_is_named(tmp_path):
    """With the hint of who wrote the file."""
    for entry, says in (
        ({"command": "no-such-plugin", "installHint": "get it there"}, "get it there"),
        ({"command": "bin/no-such-plugin"}, f"{tmp_path}/bin/no-such-plugin"),
        ({"command": "false"}, "'false' gave no credentials"),
        ({"command": "true"}, "'true' gave no credentials"),
    ):
        user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", **entry}}
        found = read((config(tmp_path, user=user, cluster={"server": "http://x"}),), None)
        with pytest.raises(NoClusterError, match=says):
            found.headers()


def test_a_pods_own_service_account(tmp_path, monkeypatch):
    """Where the kubelet puts it; IPv6 in brackets."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    (tmp_path / "ca.crt").write_bytes(make_authority(utc_now()).certificate)
    (tmp_path / "token").write_text("t\n")
    (tmp_path / "namespace").write_text("podpace-system")

    found = in_pod(tmp_path)

    assert (found.server, found.namespace) == ("https://[fd00::1]:443", "podpace-system")
    assert found.headers() == {"Authorization": "Bearer t"}


def test_outside_a_pod_there_is_no_service_account(tmp_path, monkeypatch):
    """And with half of one neither."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(NoClusterError, match="this is no pod"):
        in_pod(tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    with pytest.raises(NoClusterError, match="token"):
        in_pod(tmp_path)


def test_a_tokens_file_is_read_again_and_may_be_away_for_a_while(tmp_path):
    """The kubelet renews it in place."""
    now = [0.0]
    token = TokenFile(tmp_path / "token", lambda: now[0])
    (tmp_path / "token").write_text("1")
    first = token()
    (tmp_path / "token").write_text("2")
    soon, now[0] = token(), 60.0
    later = token()
    (tmp_path / "token").unlink()
    now[0] = 120.0

    assert (first, soon, later, token()) == ("1", "1", "2", "2")


@pytest.mark.parametrize(
    ("address", "no_proxy", "past"),
    [
        ("api.example.com:6443", "", False),
        ("127.0.0.1:6443", "", True),
        ("localhost:8001", "", True),
        ("[::1]:6443", "", True),
        ("10.96.0.1:443", "10.0.0.0/8", True),
        ("10.96.0.1:443", "192.168.0.0/16,10.96.0.1", True),
        ("11.0.0.1:443", "10.0.0.0/8", False),
        ("api.example.com:6443", "example.com", True),
        ("example.com:6443", ".example.com", False),
        ("api.example.com:6443", "*.example.com", True),
        ("api.example.com:6443", "example.com:443", False),
        ("notexample.com", "example.com", False),
        ("anything", "*", True),
        ("fd00::1", "fd00::/8", True),
    ],
)
def test_who_is_reached_without_the_proxy(address, no_proxy, past):
    """As Go's clients have it."""
    assert bypasses(address, no_proxy) is past


def test_the_proxy_of_a_server_is_the_environments_or_its_own(tmp_path, monkeypatch):
    """The kubeconfig's word is the nearer one."""
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    environment = {"HTTPS_PROXY": "proxy:3128", "no_proxy": "inside"}
    assert proxy_for("https://outside:6443", environment) == "http://proxy:3128"
    assert proxy_for("https://inside:6443", environment) is None
    assert proxy_for("http://outside", environment) is None
    monkeypatch.setenv("HTTPS_PROXY", "http://far:1")
    near = config(tmp_path, cluster={"proxy-url": "http://near:2"})
    assert read((near,), None).proxy == "http://near:2"
    assert read((config(tmp_path),), None).proxy == "http://far:1"


def imported(code: str, *names: str) -> list[str]:
    """Which of these modules a process has that runs ``code``."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys, json; print(json.dumps(list(sys.modules)))"],
        capture_output=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    return sorted(set(names) & set(json.loads(done.stdout)))


def test_the_transport_costs_no_typed_client():
    """Every node pays for what is imported here."""
    code = "import kube.api, kube.credentials, kube.listwatch"

    assert imported(code, "kubernetes", "pydantic", "httpx", "yaml") == []


def test_the_official_client_is_imported_for_users_who_log_in_by_a_command(tmp_path):
    """18 MB, and a third of a second."""
    for user, found in (({"token": "t"}, []), (plugin(tmp_path, {"token": "t"}), ["kubernetes"])):
        path = config(tmp_path, user=user, cluster={"server": "http://x"})
        code = f"from kube.credentials import load; load({str(path)!r}).headers()"
        assert imported(code, "kubernetes") == found


def test_a_command_may_give_a_certificate_and_is_told_of_the_cluster(tmp_path):
    """Where the kubeconfig says so."""
    pair = make_authority(utc_now())
    status = {
        "clientCertificateData": pair.certificate.decode(),
        "clientKeyData": pair.key.decode(),
    }
    user = plugin(tmp_path, status)
    user["exec"]["provideClusterInfo"] = True
    user["exec"]["args"][1] += "; assert asked['spec']['cluster']['server'] == 'https://one:6443/'"

    found = read((config(tmp_path, user=user),), None)

    assert found.tls is not None
    assert found.headers() == {}
