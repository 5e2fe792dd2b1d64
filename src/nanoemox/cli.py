"""The command line. Every command imports what it needs when it runs, so that ``--help`` is instant.

Exit codes: 0 all well; 2 a mistake of the user's or a file that cannot be used, told in one sentence on stderr.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="nanoemox",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Read a talking person: six affective answers from a clip.",
    epilog="Example:  nanoemox answer talk.mp4 --subtitle 'I finally got the job!'",
)


def main(args: list[str] | None = None) -> None:
    """Run the command line; a user's mistake ends in one sentence and exit code 2."""
    try:
        app(args)
    except ValueError as error:
        from nanoemox.types import NanoEmoXError

        if not isinstance(error, NanoEmoXError):
            raise
        typer.echo(f"nanoemox: {error}", err=True)
        sys.exit(2)


def _show_version(wanted: bool) -> None:
    if wanted:
        from nanoemox import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Read a talking person: six affective answers from a clip."""


ModelOption = Annotated[
    str | None, typer.Option("--model", help="Model directory or hub id; default: the one in the package.")
]
TrustOption = Annotated[
    bool, typer.Option("--trust-npz", help="Open pickled .npz files: they can run any code, so trust their source.")
]
ScorerOption = Annotated[str, typer.Option(help="corrected, or legacy: the published protocol with its quirks.")]
WheelOption = Annotated[Path | None, typer.Option(help="Folder of the published wheel tables, for the legacy scorer.")]


def _tell_json(value: object, indent: int | None = None) -> None:
    """Print JSON for machines."""
    from json import dumps

    typer.echo(dumps(value, indent=indent, ensure_ascii=False))


@app.command(epilog="Example:  nanoemox answer talk.mp4 --task mer --labels happy,sad,neutral --explain")
def answer(
    clips: Annotated[list[Path], typer.Argument(metavar="CLIP...", help="Video, audio or picture files, or folders.")],
    task: Annotated[
        str, typer.Option(help="all, or some of msa, mer, ovmer, mir, eri, erg, with commas between.")
    ] = "all",
    subtitle: Annotated[str | None, typer.Option(help="The words, or 'auto' to recognise them.")] = None,
    asr_model: Annotated[str | None, typer.Option(help="Speech recognition model for --subtitle auto.")] = None,
    history: Annotated[
        Path | None, typer.Option(help='Earlier turns, oldest first: JSON [{"role": ..., "text": ...}, ...].')
    ] = None,
    labels: Annotated[str | None, typer.Option(help="Candidates of one closed task, with commas between.")] = None,
    think: Annotated[bool, typer.Option("--think/--no-think", help="Chain of empathy before the reply.")] = True,
    every: Annotated[
        float | None, typer.Option(help="Answer along the clip, one window every so many seconds.")
    ] = None,
    window: Annotated[float | None, typer.Option(help="Seconds in a window; default: 10.")] = None,
    model: ModelOption = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    face_index: Annotated[int, typer.Option(help="Which person, 0 the largest.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="One JSON object per clip (or window) and line.")] = False,
    csv: Annotated[Path | None, typer.Option(help="Append to this table; clips that it holds are skipped.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Add what the model looked at.")] = False,
) -> None:
    """Answer some or all of the six tasks about clips of a talking person."""
    from nanoemox.answer_files import AnswerRequest, answer_files

    request = AnswerRequest(
        tasks=task,
        subtitle=subtitle,
        asr_model=asr_model,
        history=history,
        labels=labels,
        think=think,
        every_s=every,
        window_s=window,
        model=model,
        device=device,
        face_index=face_index,
        json=json,
        csv=csv,
        explain=explain,
    )
    raise typer.Exit(answer_files(clips, request))


@app.command(epilog="Example:  nanoemox prepare crema_d data/CREMA-D --out data/manifests/crema_d")
def prepare(
    corpus: Annotated[str, typer.Argument(help="Name of a corpus; --list shows them.")] = "",
    root: Annotated[Path | None, typer.Argument(help="Folder that the corpus was unpacked in.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the manifests and the summary.")] = None,
    trust_npz: TrustOption = False,
    show_list: Annotated[bool, typer.Option("--list", help="List the corpora with their licences.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Turn a corpus as released, or your own clips and a table, into manifests."""
    from nanoemox.data.prepare import format_corpora, format_summary, list_corpora
    from nanoemox.data.prepare import prepare as write_manifests

    if show_list:
        _tell_json(list_corpora(), 1) if json else typer.echo(format_corpora())
        return
    if not corpus or root is None or out is None:
        raise typer.BadParameter("give a corpus, its folder and --out FOLDER; --list shows the corpora")
    summary = write_manifests(corpus, root, out, trust_npz=trust_npz)
    _tell_json(summary, 1) if json else typer.echo(format_summary(summary, out))


@app.command(epilog="Example:  nanoemox check manifests/calls --against manifests/meld/test.jsonl")
def check(
    source: Annotated[str, typer.Argument(metavar="MANIFEST|CORPUS", help="Manifest, prepared folder, or corpus.")],
    root: Annotated[Path | None, typer.Argument(help="With a corpus: the folder that it was unpacked in.")] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option(help="Manifest, prepared folder, or annotation file (JSON, CSV) to find leaks into."),
    ] = None,
    data_root: Annotated[Path | None, typer.Option(help="Folder of the media; default: as the manifest says.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that open the files; 0: threads.")] = 0,
    media: Annotated[bool, typer.Option("--media/--no-media", help="Open every file.")] = True,
    trust_npz: TrustOption = False,
    json: Annotated[bool, typer.Option("--json", help="Print every finding as JSON.")] = False,
) -> None:
    """Look for what would break or spoil training: bad clips, leaks, misspelt labels. Exit code 2 if there is any."""
    from nanoemox.data.doctor import CheckOptions
    from nanoemox.data.doctor import check as examine
    from nanoemox.data.doctor_table import looking, show_report

    with looking(show=not json) as done:
        options = CheckOptions(tuple(against or ()), data_root, workers, media, trust_npz, done)
        report = examine(source, root, options)
    if json:
        _tell_json(report.to_dict(), 1)
    else:
        show_report(report)
    raise typer.Exit(0 if report.sound else 2)


@app.command(epilog="Example:  nanoemox features manifests/meld --model base --out cache --workers 8")
def features(
    manifests: Annotated[
        list[Path], typer.Argument(metavar="MANIFEST...", help="Manifests, or folders that prepare wrote.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the cache, for train --features.")],
    model: ModelOption = None,
    data_root: Annotated[Path | None, typer.Option(help="Folder of the media; default: as the manifest says.")] = None,
    workers: Annotated[int | None, typer.Option(min=0, help="Decoding processes; default: the cores.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Clips encoded at once.")] = 16,
    dtype: Annotated[str, typer.Option(help="float16 or float32, as cache_dtype of the recipe.")] = "float16",
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Run the frozen encoders once over the clips, so that training need not."""
    from nanoemox.checkpoints import find_checkpoint

    if dtype not in ("float16", "float32"):
        raise typer.BadParameter(f"--dtype {dtype}: float16 or float32")
    base, _, _ = find_checkpoint(model)

    from nanoemox.data.feature_command import FeatureRequest, format_features, make_features

    request = FeatureRequest(base, out, data_root, workers, batch, dtype, show=not json)
    told = make_features(manifests, request)
    if told is not None:
        _tell_json(told) if json else typer.echo(format_features(told))


@app.command(epilog="Example:  nanoemox train p2e-mini --data-root data --out runs/mini")
def train(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe of the package, or a YAML file.")],
    data_root: Annotated[Path, typer.Option(help="Folder that holds the corpora.")],
    out: Annotated[Path, typer.Option(help="Folder for checkpoints and metrics.")],
    model: ModelOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in OUT.")] = False,
    max_steps: Annotated[int | None, typer.Option(help="Stop every phase after so many steps.")] = None,
    seed: Annotated[int | None, typer.Option(help="Replaces the seed of the recipe.")] = None,
    features: Annotated[Path | None, typer.Option(help="Folder of the feature cache; default: OUT/features.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train a model by a recipe, such as the three phases of P2E."""
    from nanoemox.checkpoints import find_checkpoint
    from nanoemox.training.command import run_train

    base, _, _ = find_checkpoint(model)
    result = run_train(
        recipe, data_root, out, base, resume=resume, max_steps=max_steps, seed=seed, features=features, show=not json
    )
    if json:
        _tell_json(result)
    else:
        typer.echo(f"trained: {result['model']}")


@app.command(epilog="Example:  nanoemox evaluate --benchmarks meld --data-root data --out runs/eval")
def evaluate(
    benchmarks: Annotated[
        list[str], typer.Option("--benchmarks", help="Ids or groups, with commas between; may be given again.")
    ],
    data_root: Annotated[Path, typer.Option(help="Folder that holds the corpora.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; one that was killed goes on.")],
    model: ModelOption = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Clips of each benchmark.")] = None,
    scorer: ScorerOption = "corrected",
    wheel_tables: WheelOption = None,
    batch: Annotated[int, typer.Option(min=1, help="Clips asked together.")] = 8,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    trust_npz: TrustOption = False,
    json: Annotated[bool, typer.Option("--json", help="Print what metrics.json holds.")] = False,
) -> None:
    """Ask a model a benchmark's questions and score its answers, beside rows that never look at a clip."""
    from nanoemox.evaluation.report import format_report
    from nanoemox.evaluation.run_command import EvaluateRequest, run_evaluate
    from nanoemox.render import progress_over

    keys = tuple(key.strip() for given in benchmarks for key in given.split(",") if key.strip())
    request = EvaluateRequest(keys, data_root, out, model, limit, scorer, wheel_tables, batch, device, trust_npz)
    metrics = run_evaluate(request, None if json else progress_over)
    if metrics is None:  # another process tells
        return
    if json:
        _tell_json(metrics, 1)
    else:
        typer.echo(format_report(metrics))


@app.command(epilog="Example:  nanoemox score runs/eval --scorer legacy --wheel-tables emotion_wheel")
def score(
    path: Annotated[
        Path,
        typer.Argument(metavar="RUN_OR_FILE", help="A run, a result file, or a folder of the authors' checkpoints."),
    ],
    benchmark: Annotated[str | None, typer.Option(help="Id; default: what the run or the path says.")] = None,
    truth: Annotated[
        Path | None, typer.Option(help="Label file or corpus folder; default: what the run holds.")
    ] = None,
    scorer: ScorerOption = "corrected",
    wheel_tables: WheelOption = None,
    trust_npz: TrustOption = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, fractions of one.")] = False,
) -> None:
    """Score predictions, of this package or the authors', without a model."""
    from nanoemox.evaluation.score_command import ScoreRequest, format_result, run_score

    result = run_score(path, ScoreRequest(benchmark, truth, scorer, wheel_tables, trust_npz))
    if json:
        _tell_json(result, 1)
    else:
        typer.echo(format_result(result))


@app.command(epilog="Example:  nanoemox judge runs/eval --judge openai:http://localhost:8000/v1#NAME")
def judge(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="A run with explanations or replies.")],
    judges: Annotated[list[str], typer.Option("--judge", help="openai:http://host:port/v1#NAME; may be repeated.")],
    json: Annotated[bool, typer.Option("--json", help="Print what judge.json holds.")] = False,
) -> None:
    """Let language models score explanations and replies; their key comes from OPENAI_API_KEY."""
    from nanoemox.evaluation.judge import format_judged, run_judge

    result = run_judge(path, judges)
    _tell_json(result, 1) if json else typer.echo(format_judged(result))


@app.command(epilog="Example:  nanoemox assemble nanoemox --out base")
def assemble(
    preset: Annotated[str, typer.Argument(help="Name of a model recipe of the package, or a YAML file.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    vision: Annotated[str | None, typer.Option(help="Vision tower: directory or hub id.")] = None,
    speech: Annotated[str | None, typer.Option(help="Speech encoder: directory or hub id.")] = None,
    face: Annotated[str | None, typer.Option(help="Face backbone: file, directory or hub id.")] = None,
    lm: Annotated[str | None, typer.Option(help="Language model: directory or hub id.")] = None,
    random: Annotated[bool, typer.Option("--random", help="Random weights, no download: a placeholder.")] = False,
    seed: Annotated[int, typer.Option(help="Of what is drawn: adapters and fusion, or everything.")] = 0,
    dtype: Annotated[str, typer.Option(help="bfloat16, float16 or float32.")] = "bfloat16",
    max_shard_size: Annotated[str, typer.Option(help="Limit of one file, such as 2GB or 500MB.")] = "2GB",
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Put public backbones together into a model whose adapters are untrained."""
    from nanoemox.model.assemble import WriteOptions
    from nanoemox.model.assemble import assemble as write_model
    from nanoemox.model.presets import PARTS

    sources = {p: s for p, s in zip(PARTS, (vision, speech, face, lm), strict=True) if s is not None}
    report = write_model(preset, out, sources, WriteOptions(random, seed, dtype, max_shard_size))
    if json:
        _tell_json(report.to_dict())
    else:
        from nanoemox.render import show_sizes

        typer.echo(report.text())
        show_sizes(report.sizes.rows())


@app.command(epilog="Example:  nanoemox convert phase3.pth --base reference --out authors")
def convert(
    checkpoints: Annotated[
        list[Path], typer.Argument(metavar="PTH...", help="The authors' files; later ones are laid over earlier ones.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    base: Annotated[
        Path | None, typer.Option(help="Model directory that gives the frozen weights; without it: adapters alone.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Turn the authors' checkpoints into a model directory."""
    from nanoemox.checkpoints import find_checkpoint
    from nanoemox.model.convert import convert_checkpoints

    if base is not None:
        find_checkpoint(base)
    report = convert_checkpoints(checkpoints, out, base)
    if json:
        _tell_json(report.to_dict())
    else:
        typer.echo(report.text())


@app.command(epilog="Example:  nanoemox env --json")
def env(
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show versions, device, decoders and models: what a bug report needs."""
    from nanoemox.environment import describe_environment, format_environment

    found = describe_environment()
    if json:
        _tell_json(found, 2)
    else:
        typer.echo(format_environment(found))
