"""What is in the images, and what is not."""

import json
from typing import Any

import pytest

from tests.images.podman import LEARNER_IMAGE, RAG_IMAGE, STATE_DIR, Podman

MEGABYTE = 1_000_000
COMPILERS = ("cc", "gcc", "g++", "c++", "clang", "as", "ld", "make", "cargo", "go")
INSTALLERS = ("pip", "pip3", "uv", "ensurepip")

each_image = pytest.mark.parametrize("image", [LEARNER_IMAGE, RAG_IMAGE], ids=["learner", "rag"])


def inspected(podman: Podman, image: str) -> Any:
    return json.loads(podman.output("image", "inspect", image))[0]


def said_inside(podman: Podman, image: str, *command: str) -> str:
    """What a program in the image writes to stdout, hardened as the service is."""
    container = podman.run(image, *command[1:], name="look", entrypoint=command[0])
    assert container.wait() == 0, container.logs()
    return podman.output("logs", container.name)


@pytest.mark.parametrize(
    ("image", "megabytes_max"), [(LEARNER_IMAGE, 400), (RAG_IMAGE, 600)], ids=["learner", "rag"]
)
def test_an_image_is_no_larger_than_was_said(podman: Podman, image: str, megabytes_max: int) -> None:
    assert inspected(podman, image)["Size"] < megabytes_max * MEGABYTE


@each_image
def test_an_image_states_its_user_its_health_check_and_its_volume(podman: Podman, image: str) -> None:
    config = inspected(podman, image)["Config"]
    assert config["User"] == "10001:10001"
    assert inspected(podman, image)["Healthcheck"]["Test"] == ["CMD", "errata-probe"]
    assert list(config["Volumes"]) == [STATE_DIR]


@each_image
def test_no_compiler_and_no_installer_is_in_an_image(podman: Podman, image: str) -> None:
    found = said_inside(podman, image, "sh", "-c", f"command -v {' '.join(COMPILERS + INSTALLERS)} || true")
    assert found == ""
    code = (
        "import importlib.util as u; print([m for m in ('pip', 'setuptools', 'hatchling') if u.find_spec(m)])"
    )
    assert said_inside(podman, image, "python", "-c", code) == "[]"


@each_image
def test_nothing_but_the_volume_belongs_to_the_service_or_can_be_written_by_it(
    podman: Podman, image: str
) -> None:
    # Of the image itself, which a read-only root file system would hide: -perm looks at the modes alone.
    looked_for = r"\( -user 10001 -o -perm -o=w \) -not -type l"
    left_out = " ".join(f"-not -path '{folder}/*'" for folder in ("/proc", "/dev", "/sys"))
    # It complains of folders that it may not read, which is as it should be.
    found = said_inside(
        podman, image, "sh", "-c", f"find / -xdev {looked_for} {left_out} 2>/dev/null || true"
    )
    outside = {path for path in found.splitlines() if not path.startswith(STATE_DIR)}
    assert outside <= {"/tmp", "/var/tmp", "/run/lock"}  # noqa: S108 - sticky ones


@each_image
def test_all_code_is_compiled_already(podman: Podman, image: str) -> None:
    code = (
        "import pathlib, errata, importlib.util as u;"
        "root = pathlib.Path(errata.__file__).parent.parent;"
        "print([str(p) for p in root.rglob('*.py') if not pathlib.Path(u.cache_from_source(p)).exists()])"
    )
    assert said_inside(podman, image, "python", "-c", code) == "[]"
