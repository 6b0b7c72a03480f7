"""Both images as an operator gets them."""

import json

import pytest

from tests.images.conftest import IMAGES
from tests.images.engine import Engine


@pytest.mark.parametrize("image", IMAGES.values())
def test_an_image_holds_its_command_and_no_package_installer(engine: Engine, image: str) -> None:
    """Each image prints its version with a read-only root and has neither pip nor a compiler."""
    tool = image.partition(":")[0]
    listed = engine.docker(
        "run", "--rm", "--network=none", "--read-only", "--entrypoint=/bin/sh", image, "-c",
        f"command -v {tool}; command -v pip gcc cc curl wget ip tc; true",
    ).stdout  # fmt: skip
    assert listed.split() == [f"/opt/podpace/bin/{tool}"]


def test_the_webhook_image_answers_as_nobody(engine: Engine) -> None:
    """The webhook reviews a pod as a user without rights, on a read-only root."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "annotations": {"podpace.io/egress-bandwidth": "10M"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    image = IMAGES["webhook"]
    assert engine.inspect(image)["Config"]["User"] == "65532:65532"
    done = engine.docker(
        "run", "--rm", "--network=none", "--read-only", "--cap-drop=ALL",
        "--entrypoint=/bin/sh", image, "-c",
        f"echo '{json.dumps(pod)}' | podpace-webhook review -f - -o json",
    )  # fmt: skip
    assert '"podpace.io/egress-bits-per-second": "10000000"' in done.stdout, done.stdout


def test_an_image_says_what_it_is(engine: Engine) -> None:
    """Both images carry their name as a label; their sizes are printed for the record."""
    for image in IMAGES.values():
        found = engine.inspect(image)
        assert (
            found["Config"]["Labels"]["org.opencontainers.image.title"] == image.partition(":")[0]
        )
        print(f"{image}: {found['Size'] / 1e6:.0f} MB")
