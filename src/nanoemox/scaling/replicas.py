"""The server in several processes: Ray Serve listens, each replica runs the whole application on its own engine."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

from fastapi import FastAPI

from nanoemox.inference.checkpoints import find_checkpoint
from nanoemox.inference.engine import Engine
from nanoemox.listening import listening_at
from nanoemox.scaling.cluster import SEE_MORE, Cluster, Share, ray_at
from nanoemox.scaling.unanswered import PROXY_VARIABLES
from nanoemox.serving.app import SHUTDOWN_S, check_reach, create_app
from nanoemox.serving.limits import Limits
from nanoemox.serving.service import Service
from nanoemox.types import NanoEmoXError

NAME: Final = "nanoemox"
"""Of the application and its deployment in Ray Serve."""


@dataclass(frozen=True, slots=True)
class ReplicaOptions:
    """Options of a replica.

    Attributes:
        model: As of :meth:`~nanoemox.inference.engine.Engine.from_pretrained`.
        device: The same.
        limits: Bounds of one replica. None of them keeps uploaded files: the next request may reach another.
        media_hosts: Hosts that media may be fetched from.
        names: What clients may call the model.
        host: What clients may call this machine besides its addresses and ``localhost``.
        token: What clients must send.
    """

    model: str | None = None
    device: str = "auto"
    limits: Limits = field(default_factory=Limits)
    media_hosts: frozenset[str] = frozenset()
    names: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    token: str | None = None


class Replica:
    """One engine and the application around it, in a process of Ray's."""

    def __init__(self, options: ReplicaOptions) -> None:
        self.options = options
        engine = Engine.from_pretrained(options.model, device=options.device)
        self.service = Service(engine, replace(options.limits, files_bytes=0), options.media_hosts, options.names)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return what answers; Ray Serve asks once."""
        return create_app(self.service, self.options.host, self.options.token)

    def check_health(self) -> None:
        """Let Ray Serve replace a replica if its model thread has ended."""
        if not self.service.batcher.alive:
            raise RuntimeError("the model's thread has ended")


def serve_replicas(
    options: ReplicaOptions, cluster: Cluster, share: Share, port: int, on_ready: Callable[[str], None]
) -> None:
    """Serve until Ctrl-C or a termination signal; requests in progress are finished first.

    Args:
        options: What each replica serves.
        cluster: Where Ray runs.
        share: How many replicas, and what each takes.
        port: Port; 0 takes a free one.
        on_ready: Called with the address once it can be used.

    Raises:
        NanoEmoXError: The address cannot be bound or is public without a token, no such model,
            Ray cannot be started or reached, lacks the resources, or no replica starts.
    """
    check_reach(options.host, options.token)
    find_checkpoint(options.model)  # better now than in every replica
    with listening_at(port, options.host) as (listening, address):
        port = listening.getsockname()[1]
    options = replace(options, device=share.device(options.device))
    with ray_at(cluster, share, PROXY_VARIABLES), _stop_signal() as ended, _serving(options, share, port):
        if _ready(ended):
            on_ready(address)
            ended.wait()


@contextmanager
def _serving(options: ReplicaOptions, share: Share, port: int) -> Iterator[None]:
    from ray import serve
    from ray.exceptions import RayError
    from ray.serve.exceptions import RayServeException
    from ray.serve.schema import LoggingConfig

    # No access log: paths hold the ids of clients' files.
    quiet = LoggingConfig(log_level="WARNING", enable_access_log=False)
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    http = {"host": options.host, "port": port}
    try:
        try:
            serve.start(proxy_location="EveryNode", http_options=http, logging_config=quiet)
            target = serve.RunTarget(_deployment(options, share, quiet), name=NAME, route_prefix="/")
            serve.run_many([target], wait_for_applications_running=False)
        except (RayError, RayServeException, TimeoutError) as error:
            raise NanoEmoXError(
                f"Ray Serve does not start ({type(error).__name__}): try again when the machine is less busy, or "
                f"another --port ({SEE_MORE})"
            ) from error
        yield
    finally:
        with suppress(RayError, RayServeException):
            serve.shutdown()


def _ready(ended: threading.Event) -> bool:
    """Wait for the replicas; False if the server was stopped before."""
    from ray import serve

    while not ended.wait(0.2):
        found = serve.status().applications.get(NAME)
        if found is not None and found.status == "RUNNING":
            return True
        if found is not None and found.status in ("DEPLOY_FAILED", "UNHEALTHY"):
            raise NanoEmoXError(
                f"no replica starts: see that nanoemox and the model are where the replicas run ({SEE_MORE})"
            )
    return False


def _deployment(options: ReplicaOptions, share: Share, quiet: Any) -> Any:
    from ray import serve

    limits = options.limits
    scaled: dict[str, Any] = {"num_replicas": share.least}
    if share.most > share.least:
        bounds = {"min_replicas": share.least, "max_replicas": share.most, "target_ongoing_requests": limits.batch}
        scaled = {"autoscaling_config": bounds}
    return (
        serve.deployment(serve.ingress()(Replica))
        .options(
            name=NAME,
            ray_actor_options={"num_cpus": share.cpus, "num_gpus": share.gpus},
            # Each replica refuses what is too much by itself, with 429; live streams stay apart from that.
            max_ongoing_requests=limits.queue + limits.sessions + 1,
            max_queued_requests=limits.queue,
            graceful_shutdown_timeout_s=SHUTDOWN_S,
            logging_config=quiet,
            **scaled,
        )
        .bind(options)
    )


@contextmanager
def _stop_signal() -> Iterator[threading.Event]:
    """Yield an event that SIGINT and SIGTERM set; Ray's own handlers, set when it starts, would end in a traceback."""
    ended = threading.Event()
    before = {sign: signal.signal(sign, lambda *_: ended.set()) for sign in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield ended
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)
