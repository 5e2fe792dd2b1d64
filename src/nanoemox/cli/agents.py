"""The command ``mcp``: tools for agents."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nanoemox.cli.app import DeviceOption, MaxSecondsOption, ModelOption, app, print_text


@app.command(epilog="Example:  nanoemox mcp --folder ~/clips")
def mcp(
    model: ModelOption = None,
    device: DeviceOption = "auto",
    folder: Annotated[
        list[Path] | None,
        typer.Option(help="Folder whose clips agents may name; repeatable. [default: the current one]"),
    ] = None,
    http: Annotated[bool, typer.Option("--http", help="Streamable HTTP on loopback in place of stdio.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="With --http: port; 0 takes a free one.")] = 8001,
    max_seconds: MaxSecondsOption = 600.0,
) -> None:
    """Serve the six answers, free questions and replies to agents, over the Model Context Protocol."""
    from nanoemox.types import NanoEmoXError

    try:
        from nanoemox.serving.agents import build_server, serve_http
        from nanoemox.serving.limits import Limits
        from nanoemox.serving.local_files import Folders
    except ImportError as error:
        raise NanoEmoXError(f"mcp needs {error.name}: pip install 'nanoemox[serve]'") from error
    folders = folder or [Path()]
    Folders(folders)  # fails before the model is loaded
    from nanoemox.inference.engine import Engine

    server = build_server(Engine.from_pretrained(model, device=device), folders, Limits(duration_s=max_seconds))
    if http:
        # stdout is free here; over stdio it belongs to the protocol.
        serve_http(server, port, print_text)
    else:
        server.run("stdio")
