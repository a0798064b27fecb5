"""Containerfiles, compose.yaml, manifests and locks: what can be read off them."""

import difflib
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from errata.serving.process import EXIT_S_MAX
from errata.serving.settings import SETTINGS
from learner_service.config import LearnerConfig
from learner_service.config import parse as parse_learner
from rag_service.config import RagConfig
from rag_service.config import parse as parse_rag

ROOT = Path(__file__).resolve().parent.parent.parent
DEPLOY = ROOT / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
PARSE: Mapping[str, Callable[[Sequence[str], Mapping[str, str]], LearnerConfig | RagConfig]] = {
    "learner": parse_learner,
    "rag": parse_rag,
}
VARIABLES = {setting.variable for setting in SETTINGS.values()}

each_service = pytest.mark.parametrize("service", ["learner", "rag"])


def containerfile(service: str) -> list[str]:
    """Its instructions, one a line, without comments."""
    text = (DEPLOY / f"{service}.Containerfile").read_text()
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    return [line for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines() if line]


def image_environ(service: str) -> dict[str, str]:
    (written,) = [line for line in containerfile(service) if line.startswith("ENV PATH=")]
    return dict(pair.split("=", 1) for pair in written.removeprefix("ENV ").split())


def compose_services() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    return services


def manifest_containers() -> Iterator[tuple[str, Any]]:
    for path in MANIFESTS:
        for document in yaml.safe_load_all(path.read_text()):
            template = document.get("spec", {}).get("template", {})
            for container in template.get("spec", {}).get("containers", []):
                yield container["name"], container


def settings_of(service: str, environ: dict[str, str]) -> LearnerConfig | RagConfig:
    """What a service makes of its variables, those of its image included."""
    return PARSE[service]([], {**image_environ(service), **environ})


def locked(name: str) -> list[tuple[str, int]]:
    """Each requirement of a lock, without the platforms that it is for, and the number of its hashes."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text().replace("\\\n", " ")
    lines = [line.split(" --hash=sha256:") for line in text.splitlines()]
    return [(requirement.partition(";")[0].strip(), len(hashes)) for requirement, *hashes in lines]


@pytest.mark.parametrize("name", ["dev", "learner", "rag", "build"])
def test_every_requirement_of_a_lock_is_pinned_and_has_a_hash(name: str) -> None:
    assert locked(name)
    assert [each for each in locked(name) if "==" not in each[0] or each[1] == 0] == []


@pytest.mark.parametrize("name", ["learner", "rag", "build"])
def test_an_image_installs_the_versions_that_are_tested(name: str) -> None:
    assert {each for each, _ in locked(name)} <= {each for each, _ in locked("dev")}


@each_service
def test_an_image_is_built_in_stages_by_hash_and_run_by_nobody(service: str) -> None:
    lines = containerfile(service)
    assert lines[0].startswith("ARG BASE=docker.io/library/python:3.")
    assert [line.split()[1] for line in lines if line.startswith("FROM ")] == [
        *("${BASE}", "base", "base", "scratch")
    ]
    installs = [
        part for line in lines for part in line.split(";") if re.search(r"pip (--python \S+ )?install", part)
    ]
    assert len(installs) == 3
    for install in installs:
        assert "--require-hashes" in install or "--no-index" in install
    assert "USER 10001:10001" in lines
    assert f'ENTRYPOINT ["errata-{service}"]' in lines
    assert any(line.startswith("HEALTHCHECK ") and 'CMD ["errata-probe"]' in line for line in lines)


def test_the_two_images_differ_in_what_their_services_differ_in_alone() -> None:
    learner, rag = (
        re.sub(r"\blearner\b|\brag\b|741[12]", "SERVICE", (DEPLOY / f"{name}.Containerfile").read_text())
        for name in PARSE
    )
    differing = [
        line[2:] for line in difflib.ndiff(learner.splitlines(), rag.splitlines()) if line[0] in "+-"
    ]
    allowed = re.compile(
        r"# The (Learner|RAG service)\. Built|# The (store|snapshot)\b|    ERRATA_\w+_DIR=|HEALTHCHECK |"
        r".*\b(kernels?|warm_up|NUMBA_CACHE_DIR)\b|# and keeps it on the volume|$"
    )
    assert [line for line in differing if not allowed.match(line)] == []


@each_service
def test_an_image_sets_variables_that_its_service_has(service: str) -> None:
    environ = image_environ(service)
    assert {name for name in environ if name.startswith("ERRATA_")} <= VARIABLES
    config = settings_of(service, {})
    assert config.listen.startswith("0.0.0.0:")
    (exposed,) = [line.split()[1] for line in containerfile(service) if line.startswith("EXPOSE ")]
    assert config.listen.endswith(f":{exposed}")


@each_service
def test_compose_hardens_each_service_and_publishes_it_on_loopback(service: str) -> None:
    settings = compose_services()[service]
    assert settings["user"] == "10001:10001"
    assert settings["read_only"] is True
    assert settings["cap_drop"] == ["ALL"]
    assert settings["security_opt"] == ["no-new-privileges:true"]
    assert settings["healthcheck"]["test"] == ["CMD", "errata-probe"]
    assert int(settings["stop_grace_period"].removesuffix("s")) > EXIT_S_MAX
    config = settings_of(service, settings["environment"])
    port = config.listen.rpartition(":")[2]
    assert settings["ports"] == [f"127.0.0.1:{port}:{port}"]


def test_compose_lets_the_rag_service_find_the_learner_on_an_internal_network() -> None:
    document = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    assert document["networks"]["between"] == {"internal": True}
    services = document["services"]
    assert all("between" in settings["networks"] for settings in services.values())
    followed = settings_of("rag", services["rag"]["environment"])
    learner = settings_of("learner", services["learner"]["environment"])
    assert isinstance(followed, RagConfig)
    assert followed.learner == f"learner:{learner.listen.rpartition(':')[2]}"
    assert isinstance(learner, LearnerConfig)
    mounted = [
        volume.rsplit(":", 2)[1] for volume in services["learner"]["volumes"] if volume.endswith(":ro")
    ]
    assert [str(path) for _, path in learner.log_dirs] == mounted


def test_the_manifests_are_listed_and_set_variables_that_the_services_have() -> None:
    listed = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == [path.name for path in MANIFESTS if path.name != "kustomization.yaml"]
    containers = dict(manifest_containers())
    assert sorted(containers) == ["learner", "rag"]
    for name, container in containers.items():
        config = settings_of(name, {each["name"]: each["value"] for each in container["env"]})
        ports = {each["name"]: str(each["containerPort"]) for each in container["ports"]}
        assert ports["grpc"] == config.listen.rpartition(":")[2]
        assert config.metrics_listen is not None
        assert ports["metrics"] == config.metrics_listen.rpartition(":")[2]


def test_building_without_buildah_says_what_to_install() -> None:
    # Nothing but the shell's own commands is found.
    done = subprocess.run(
        ["/bin/bash", str(ROOT / "scripts" / "build-images")],
        env={**os.environ, "PATH": "/nowhere"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "needs buildah: apt-get install buildah" in done.stderr
