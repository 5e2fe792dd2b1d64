"""Ray options of the commands that can run on several processes or machines."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from nanoemox.scaling.cluster import Cluster, Share

_PANEL: Final = "With Ray"


@dataclass(frozen=True)
class RayOptions:
    """The Ray options, one per field."""

    ray: Annotated[
        bool,
        typer.Option(
            "--ray", help="Spread over processes by Ray (pip install 'nanoemox\\[ray]').", rich_help_panel=_PANEL
        ),
    ] = False
    ray_address: Annotated[
        str | None,
        typer.Option(
            envvar="RAY_ADDRESS", help="An existing cluster; without it Ray starts here.", rich_help_panel=_PANEL
        ),
    ] = None
    ray_cpus: Annotated[
        int | None, typer.Option(min=1, help="Cores for Ray started here; default: all.", rich_help_panel=_PANEL)
    ] = None
    workers: Annotated[
        str,
        typer.Option(
            metavar="N|MIN:MAX", help="Engines, or from how many to how many, by load.", rich_help_panel=_PANEL
        ),
    ] = "1"
    cpus: Annotated[float, typer.Option(min=0, help="Cores of each engine.", rich_help_panel=_PANEL)] = 1.0
    gpus: Annotated[
        float, typer.Option(min=0, help="GPUs of each engine; 0.25: four share one.", rich_help_panel=_PANEL)
    ] = 0.0

    def where(self) -> tuple[Cluster, Share] | None:
        """Return where Ray runs and the resources of each worker; None without ``--ray``.

        Raises:
            NanoEmoXError: Options that contradict each other.
        """
        from nanoemox.scaling.cluster import Cluster, Share, parse_workers
        from nanoemox.types import NanoEmoXError

        if self.ray:
            return Cluster(self.ray_address, self.ray_cpus), Share(*parse_workers(self.workers), self.cpus, self.gpus)
        # An address may come from the environment, where other programs use it too.
        own = [f for f in fields(RayOptions) if f.name != "ray_address"]
        changed = [f.name for f in own if getattr(self, f.name) != f.default]
        if changed:
            names = ", ".join(f"--{name.replace('_', '-')}" for name in changed)
            raise NanoEmoXError(f"{names}: only with --ray")
        return None
