"""Options of the commands that Ray can spread over processes and machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from nanoemox.scaling.cluster import Cluster, Share

_PANEL = "With Ray"
RayOption = Annotated[
    bool,
    typer.Option("--ray", help="Spread over processes by Ray (pip install 'nanoemox\\[ray]').", rich_help_panel=_PANEL),
]
RayAddressOption = Annotated[
    str | None,
    typer.Option(
        envvar="RAY_ADDRESS", help="A cluster that is there; without it Ray starts here.", rich_help_panel=_PANEL
    ),
]
RayCpusOption = Annotated[
    int | None, typer.Option(min=1, help="Cores for Ray started here; default: all.", rich_help_panel=_PANEL)
]
WorkersOption = Annotated[
    str,
    typer.Option(metavar="N|MIN:MAX", help="Engines, or from how many to how many, by load.", rich_help_panel=_PANEL),
]
CpusOption = Annotated[float, typer.Option(min=0, help="Cores of each engine.", rich_help_panel=_PANEL)]
GpusOption = Annotated[
    float, typer.Option(min=0, help="GPUs of each engine; 0.25: four share one.", rich_help_panel=_PANEL)
]


def where_to_run(
    ray: bool, address: str | None, ray_cpus: int | None, workers: str, cpus: float, gpus: float
) -> tuple[Cluster, Share] | None:
    """Return where Ray runs and what each worker takes; None without ``--ray``.

    Raises:
        NanoEmoXError: Options that cannot be meant.
    """
    from nanoemox.scaling.cluster import Cluster, Share, parse_workers
    from nanoemox.types import NanoEmoXError

    if ray:
        return Cluster(address, ray_cpus), Share(*parse_workers(workers), cpus, gpus)
    given = {"--ray-cpus": ray_cpus is not None, "--workers": workers != "1", "--cpus": cpus != 1, "--gpus": gpus != 0}
    if any(given.values()):
        raise NanoEmoXError(f"{', '.join(name for name, used in given.items() if used)}: only with --ray")
    return None
