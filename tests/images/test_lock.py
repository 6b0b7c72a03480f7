"""The lock files are whole, for both processors."""

import json
import subprocess
import sys

import pytest

from tests.images.lock import EXTRAS, lock_file

GLIBC_OF_DEBIAN_12 = range(17, 37)


@pytest.mark.parametrize("processor", ["x86_64", "aarch64"])
@pytest.mark.parametrize("image", sorted(EXTRAS))
def test_all_that_an_image_needs_is_locked_as_a_wheel(image: str, processor: str) -> None:
    """pip resolves each lock for Debian 12 on each processor, by hashes and wheels alone."""
    tags = [f"--platform=manylinux_2_{glibc}_{processor}" for glibc in GLIBC_OF_DEBIAN_12]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--report=-"),
            *("--ignore-installed", "--target=/nonexistent", "--implementation=cp"),
            *("--python-version=3.11", *tags, f"--platform=manylinux2014_{processor}"),
            *("--only-binary=:all:", "--require-hashes", f"--requirement={lock_file(image)}"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stderr
    chosen = [each["download_info"]["url"] for each in json.loads(done.stdout)["install"]]
    assert any(url.endswith(f"{processor}.whl") for url in chosen), "nothing compiled: no such test"
