"""Where Ray runs: by default on this machine only and unreachable from outside, or in an existing cluster.

Ray's processes run whatever they are sent. The ones started here want a key that is made for this one run and listen on
loopback, but for one port of each replica that Ray Serve opens on all interfaces, behind the same key. They print
nothing, report nothing, serve no dashboard, and keep their logs in a private folder that goes when they end.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from nanoemox.types import NanoEmoXError, needs_extra

SEE_MORE: Final = "RAY_LOG_TO_DRIVER=1 shows what Ray's processes say"
_QUIET: Final = {"RAY_LOG_TO_DRIVER": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
_PRIVATE: Final = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token"}
# Ray has a setting that keeps it on loopback, under the name of the systems where that is the default.
_LOOPBACK: Final = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
# Ray starts its processes at low priority (nice 15): an engine would starve next to any other program.
_EQUAL: Final = {"RAY_worker_niceness": "0"}
# On a busy machine the first health check takes longer than Ray Serve's few seconds.
_PATIENT: Final = {"RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60", "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60"}


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where Ray runs.

    Attributes:
        address: An existing cluster (``HOST:PORT``, ``ray://HOST:PORT``, ``auto``); None starts Ray here.
        cpus: Cores for Ray started here; None for all of this machine.
        gpus: GPUs, likewise; None for those that Ray finds.
        store_mb: Shared memory of Ray started here, in MB.
    """

    address: str | None = None
    cpus: int | None = None
    gpus: int | None = None
    store_mb: int = 256


@dataclass(frozen=True, slots=True)
class Share:
    """Resources of each of several workers.

    Attributes:
        least: Minimum number of workers.
        most: Maximum number of workers; if it exceeds ``least``, Ray scales with the load.
        cpus: Cores per worker.
        gpus: GPUs per worker; a fraction shares one.
    """

    least: int = 1
    most: int = 1
    cpus: float = 1.0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise NanoEmoXError(f"{self.least} to {self.most} workers: need one at least, and no more least than most")
        for name, value in (("cores", self.cpus), ("GPUs", self.gpus)):
            if not (math.isfinite(value) and value >= 0):
                raise NanoEmoXError(f"{value:g} {name} each: need 0 or more")
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise NanoEmoXError(f"{self.gpus:g} GPUs each: Ray gives a fraction of one, or whole ones")

    def device(self, wanted: str) -> str:
        """Return the device of a worker; a GPU only if Ray assigned one."""
        return "cpu" if wanted == "auto" and not self.gpus else wanted


def parse_workers(text: str) -> tuple[int, int]:
    """Read ``3`` or ``1:4``.

    Raises:
        NanoEmoXError: Neither.
    """
    least, colon, most = text.partition(":")
    if not (least.isascii() and least.isdigit() and (not colon or (most.isascii() and most.isdigit()))):
        raise NanoEmoXError(f"{text!r} is no number of workers: give one such as 2, or a range such as 1:4")
    return int(least), int(most if colon else least)


@contextmanager
def ray_at(cluster: Cluster, share: Share, variables: Mapping[str, str] | None = None) -> Iterator[Any]:
    """Start Ray here, or join a cluster, and yield the module ``ray``; a started Ray ends with the block.

    Args:
        cluster: Where Ray runs.
        share: Resources of the workers, which Ray started here must have.
        variables: Environment variables of Ray started here.

    Raises:
        NanoEmoXError: Ray is not installed, does not start, cannot be reached, or lacks the resources.
    """
    with _environment(
        _QUIET | (_PRIVATE | _LOOPBACK | _EQUAL | _PATIENT if cluster.address is None else {}) | dict(variables or {})
    ):
        with needs_extra("ray", "--ray"):
            import ray
        logging.getLogger("ray").setLevel(logging.ERROR)
        with _started_here(ray, cluster) if cluster.address is None else _joined(ray, cluster.address):
            if cluster.address is None:
                _check_room(ray.cluster_resources(), share)
            yield ray


@contextmanager
def _started_here(ray: Any, cluster: Cluster) -> Iterator[None]:
    # Ray opens the folder that it is given to everybody, so it gets one within. Sockets want a short path.
    outer = Path(tempfile.mkdtemp(prefix="nanoemox-ray-", dir="/tmp"))
    try:
        with _environment({"RAY_AUTH_TOKEN": secrets.token_hex(32)}):
            try:  # also around the start: an interrupted one leaves processes that write to the folder
                found = ray.init(
                    address="local",
                    num_cpus=cluster.cpus or os.cpu_count(),
                    num_gpus=cluster.gpus,
                    object_store_memory=cluster.store_mb * 2**20,
                    include_dashboard=False,
                    logging_level=logging.ERROR,
                    _temp_dir=str(outer / "r"),
                )
                at = found.address_info["node_ip_address"]
                if at not in ("127.0.0.1", "::1"):
                    raise NanoEmoXError(f"Ray listens at {at}: it was imported before; use a process of its own")
                yield
            finally:
                ray.shutdown(_exiting_interpreter=False)
    except (RuntimeError, ConnectionError, ValueError) as error:
        if isinstance(error, NanoEmoXError):
            raise
        raise NanoEmoXError(
            f"Ray does not start here ({_first_line(error)}): try fewer cores, or less memory"
        ) from error
    finally:
        shutil.rmtree(outer, ignore_errors=True)


@contextmanager
def _joined(ray: Any, address: str) -> Iterator[None]:
    try:
        ray.init(address=address, logging_level=logging.ERROR)
    except (RuntimeError, ConnectionError, ValueError) as error:
        raise NanoEmoXError(
            f"--ray-address {address}: no Ray there ({_first_line(error)}): give the address that ray start printed"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_room(there: Mapping[str, float], share: Share) -> None:
    for key, name, option, each in (("CPU", "cores", "--cpus", share.cpus), ("GPU", "GPUs", "--gpus", share.gpus)):
        if each * share.most > there.get(key, 0.0):
            raise NanoEmoXError(
                f"{share.most} worker(s) of {each:g} {name} each want {share.most * each:g}, there are "
                f"{there.get(key, 0.0):g}: ask for fewer workers, or give each less with {option}"
            )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables that the user has not set, and remove them afterwards."""
    new = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)
