"""The container files agree with the package: commands, paths, user, limits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from nanoemox.cli import app
from nanoemox.serving.app import SHUTDOWN_S
from nanoemox.serving.limits import OPEN_PATHS

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text("utf-8")


def container() -> dict[str, Any]:
    deployment = next(iter(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text("utf-8"))))
    return dict(deployment["spec"]["template"]["spec"])


def test_docker_copy_sources_exist_and_are_not_ignored() -> None:
    copied = [w for line in re.findall(r"^COPY (?!--)(.*) \S+$", DOCKERFILE, re.MULTILINE) for w in line.split()]
    assert copied
    let_through = (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").split()
    for name in copied:
        assert (ROOT / name).exists()
        assert f"!{name}" in let_through


def test_the_extras_are_those_of_the_package() -> None:
    extras = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert {re.search(r"ARG EXTRA=(\w+)", DOCKERFILE)[1], "ray"} <= set(extras)  # type: ignore[index]


@pytest.mark.parametrize("where", ["docker", "kubernetes"])
def test_the_command_parses(where: str) -> None:
    if where == "docker":
        words = yaml.safe_load(re.search(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)[1])  # type: ignore[index]
    else:
        words = container()["containers"][0]["args"]
    group: Any = get_command(app)
    with group.make_context("nanoemox", list(words)) as context:
        name, command, rest = group.resolve_command(context, list(words))
        assert name == "serve"
        assert command.make_context(name, rest, parent=context).params["host"] == "0.0.0.0"


def test_nobody_runs_as_root_and_probes_need_no_token() -> None:
    pod = container()
    assert DOCKERFILE.index("USER nanoemox") < DOCKERFILE.index("ENTRYPOINT")
    uid = int(re.search(r"--uid (\d+)", DOCKERFILE)[1])  # type: ignore[index]
    assert pod["securityContext"]["runAsUser"] == uid
    server = pod["containers"][0]
    probed = {server[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")}
    probed |= set(re.findall(r"8000(/\w+)", DOCKERFILE))
    assert probed == OPEN_PATHS


def test_stop_grace_period_exceeds_shutdown_time() -> None:
    pod = container()
    waits = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > waits + SHUTDOWN_S
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))["services"]["nanoemox"]
    assert int(compose["stop_grace_period"].removesuffix("s")) > SHUTDOWN_S
    assert compose["ports"] == ["127.0.0.1:8000:8000"]


def test_untested_deployments_are_marked() -> None:
    for path in (DEPLOY / "Dockerfile", DEPLOY / "compose.yaml", DEPLOY / "kubernetes.yaml"):
        assert "Not run here" in path.read_text("utf-8")
