"""The command ``demo``: the page."""

from __future__ import annotations

from typing import Annotated

import typer

from nanoemox.cli.app import DeviceOption, MaxSecondsOption, ModelOption, app, print_text


@app.command(epilog="Example:  nanoemox demo --port 7860")
def demo(
    model: ModelOption = None,
    device: DeviceOption = "auto",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on loopback; 0 takes a free one.")] = 7860,
    max_seconds: MaxSecondsOption = 600.0,
) -> None:
    """Open a page on this machine: camera, microphone or a file in; answers, timeline, questions, chat."""
    from nanoemox.types import NanoEmoXError

    try:
        from nanoemox.demo.server import serve_demo
    except ImportError as error:
        raise NanoEmoXError(f"demo needs {error.name}: pip install 'nanoemox[demo,serve]'") from error
    from nanoemox.inference.engine import Engine
    from nanoemox.serving.limits import Limits

    engine = Engine.from_pretrained(model, device=device)
    serve_demo(
        engine,
        port,
        lambda address: print_text(f"{engine.name} at {address}   Ctrl-C stops"),
        Limits(duration_s=max_seconds),
    )
