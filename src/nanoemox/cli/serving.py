"""Commands that serve a model: ``serve`` (HTTP), ``mcp`` (tools for agents) and ``demo`` (a page)."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Annotated

import typer

from nanoemox.cli.app import DeviceOption, MaxSecondsOption, ModelOption, app, print_text, with_options
from nanoemox.cli.scaled import RayOptions


@app.command(epilog="Example:  nanoemox serve --model small --port 8000")
@with_options(RayOptions)
def serve(
    model: ModelOption = None,
    device: DeviceOption = "auto",
    host: Annotated[str, typer.Option(help="Address to listen on; others than loopback need --token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(envvar="NANOEMOX_TOKEN", help="What clients must send: Authorization: Bearer TOKEN."),
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option("--served-model-name", help="What clients may call the model; repeatable.")
    ] = None,
    allow_media_host: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST", help="Host that media may be fetched from; repeatable. Without it: from none."),
    ] = None,
    max_mb: Annotated[int, typer.Option(min=1, max=4096, help="Largest request in MB.")] = 32,
    max_seconds: MaxSecondsOption = 600.0,
    queue: Annotated[int, typer.Option(min=1, help="Requests in progress or waiting; further ones get 429.")] = 64,
    batch: Annotated[int, typer.Option(min=1, max=256, help="Clips that run through the model together.")] = 16,
    decoders: Annotated[int, typer.Option(min=1, max=256, help="Media decoded at a time.")] = 2,
    timeout: Annotated[float, typer.Option(min=1, help="Longest time for one answer, in seconds.")] = 300.0,
    *,
    options: RayOptions,
) -> None:
    """Serve decisions, chat and the six answers over HTTP, for OpenAI's clients and your own."""
    from nanoemox.types import NanoEmoXError, needs_extra

    if token is not None and not token.strip():
        raise NanoEmoXError("--token is empty: give one, or leave it out")
    cluster = options.where()
    with needs_extra("serve", "serving"):
        from nanoemox.serving.app import check_reach
        from nanoemox.serving.app import serve as serve_app
        from nanoemox.serving.limits import Limits
        from nanoemox.serving.service import Service
    check_reach(host, token)  # before the model is loaded
    from nanoemox.inference.engine import Engine

    size = max_mb * 2**20
    limits = Limits(
        body_bytes=size,
        all_bodies_bytes=max(4 * size, 512 * 2**20),
        request_s=timeout,
        queue=queue,
        batch=batch,
        duration_s=max_seconds,
        decoders=decoders,
    )
    hosts, names = frozenset(allow_media_host or ()), tuple(name or ())
    if cluster is not None:
        from nanoemox.scaling.replicas import ReplicaOptions, serve_replicas

        replica = ReplicaOptions(model, device, limits, hosts, names, host, token)
        replicas = f"{options.workers} replica(s)"
        serve_replicas(replica, *cluster, port, lambda at: print_text(f"{replicas} at {at}   Ctrl-C stops"))
        return
    engine = Engine.from_pretrained(model, device=device)
    service = Service(engine, limits, hosts, names)
    serve_app(service, host, port, token, lambda address: print_text(f"{engine.name} at {address}   Ctrl-C stops"))


@app.command(epilog="Example:  nanoemox mcp --folder ~/clips")
def mcp(
    model: ModelOption = None,
    device: DeviceOption = "auto",
    folder: Annotated[
        list[Path] | None,
        typer.Option(help="Folder whose clips agents may name; repeatable. [default: the current one]"),
    ] = None,
    http: Annotated[bool, typer.Option("--http", help="Streamable HTTP on loopback in place of stdio.")] = False,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="With --http: port; 0 takes a free one. [default: 8001]")
    ] = None,
    max_seconds: MaxSecondsOption = 600.0,
) -> None:
    """Serve the six answers, free questions and replies to agents, over the Model Context Protocol."""
    from nanoemox.types import NanoEmoXError, needs_extra

    if port is not None and not http:
        raise NanoEmoXError(f"--port {port} needs --http")
    with needs_extra("serve", "mcp"):
        from nanoemox.serving.agents import build_server, serve_http
        from nanoemox.serving.limits import Limits
        from nanoemox.serving.local_files import Folders
    folders = folder or [Path()]
    Folders(folders)  # fails before the model is loaded
    from nanoemox.inference.engine import Engine

    server = build_server(Engine.from_pretrained(model, device=device), folders, Limits(duration_s=max_seconds))
    if http:
        # stdout is free here; over stdio it belongs to the protocol.
        serve_http(server, 8001 if port is None else port, print_text)
    else:
        # The protocol reads stdin in a thread that nothing wakes, so an interrupt cannot wait for it.
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
        server.run("stdio")


@app.command(epilog="Example:  nanoemox demo --port 7860")
def demo(
    model: ModelOption = None,
    device: DeviceOption = "auto",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on loopback; 0 takes a free one.")] = 7860,
    max_seconds: MaxSecondsOption = 600.0,
) -> None:
    """Open a page on this machine: camera, microphone or a file in; answers, timeline, questions, chat."""
    from nanoemox.types import needs_extra

    with needs_extra("demo,serve", "demo"):
        from nanoemox.demo.server import serve_demo
    from nanoemox.inference.engine import Engine
    from nanoemox.serving.limits import Limits

    engine = Engine.from_pretrained(model, device=device)
    serve_demo(
        engine,
        port,
        lambda address: print_text(f"{engine.name} at {address}   Ctrl-C stops"),
        Limits(duration_s=max_seconds),
    )
