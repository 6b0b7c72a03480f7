#!/usr/bin/env bash
# kubernetes (the Python client) 37.0.2: a typed object can no longer be the patch that removes a label.
#
# Seen: with 36.0.3 V1ObjectMeta(labels={"tier": None}) becomes {"tier": null}, which in a merge patch is how a
# key is removed. With 37.0.2, whose models are pydantic's, the constructor itself raises pydantic's
# ValidationError, which is none of the client's own exceptions, and the same holds for an assignment
# later. The same patch as plain dictionaries passes unchanged.
#
# Needs /usr/bin/python3 with venv. Fails when any of this changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for number in 36.0.3 37.0.2; do
    /usr/bin/python3 -m venv "$work/$number"
    "$work/$number/bin/pip" install -q --disable-pip-version-check "kubernetes==$number"
done
cat > "$work/try.py" <<'PY'
from importlib.metadata import version

from kubernetes import client

print("kubernetes", version("kubernetes"))
serialize = client.ApiClient().sanitize_for_serialization


def typed():
    return serialize(client.V1Pod(metadata=client.V1ObjectMeta(labels={"tier": None})))


def assigned():
    metadata = client.V1ObjectMeta(labels={"tier": "a"})
    metadata.labels = {"tier": None}
    return serialize(client.V1Pod(metadata=metadata))


def plain():
    return serialize({"metadata": {"labels": {"tier": None}}})


for way in (typed, assigned, plain):
    try:
        print(f"{way.__name__}: {way()}")
    except Exception as error:
        ours = isinstance(error, client.OpenApiException)
        print(f"{way.__name__}: {type(error).__name__}, one of the client's own: {ours}")
PY
seen=$(for number in 36.0.3 37.0.2; do "$work/$number/bin/python" "$work/try.py"; done)
echo "$seen"
diff <(echo "$seen") - <<'WANT'
kubernetes 36.0.3
typed: {'metadata': {'labels': {'tier': None}}}
assigned: {'metadata': {'labels': {'tier': None}}}
plain: {'metadata': {'labels': {'tier': None}}}
kubernetes 37.0.2
typed: ValidationError, one of the client's own: False
assigned: ValidationError, one of the client's own: False
plain: {'metadata': {'labels': {'tier': None}}}
WANT
echo "as before"
