"""Which public files ``authors`` is made of, and what is known of each of them.

Nobody could reach the hub where this was written. Commits, sizes and hashes below were read in public code of several
unrelated projects that record what they fetched; what no project records is left open (``main``, None). A pull looks
it up, checks what it fetches against what the hub says of that commit, and writes it into its report, which ``--lock``
repeats.
"""

from __future__ import annotations

from dataclasses import dataclass

PRESET = "authors"
GB = 1_000_000_000
_TEXT_BYTES = 20_000_000


@dataclass(frozen=True, slots=True)
class RepoFile:
    """A file of a repository.

    Attributes:
        path: Where it lies there.
        most_bytes: A larger file is refused before it is fetched.
        size_bytes: Its exact size, where it is recorded.
        sha256: Its hash, where it is recorded.
    """

    path: str
    most_bytes: int = _TEXT_BYTES
    size_bytes: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Repository:
    """Files of a hub repository at one revision.

    Attributes:
        part: What they are: ``adapters``, or the part of the model recipe that they give.
        repo: ``owner/name``.
        revision: Commit, or branch where no commit is recorded.
        licence: SPDX identifier as recorded, or None; the hub's card may say another, which is shown beside it.
        files: What is fetched, and nothing else.
    """

    part: str
    repo: str
    revision: str
    licence: str | None
    files: tuple[RepoFile, ...]


@dataclass(frozen=True, slots=True)
class Release:
    """What is joined into the model.

    Attributes:
        preset: Model recipe, by name or path.
        repositories: One for ``adapters`` and one for each part of the recipe.
    """

    preset: str
    repositories: tuple[Repository, ...]


RELEASE = Release(
    PRESET,
    (
        Repository(
            "adapters",
            "Jiaha0Hu4ng/Nano-EmoX",
            "main",  # no record of a commit, a size or a hash was found
            None,  # the authors' code is MIT; what holds for the weights only their card can say
            (RepoFile("checkpoint_000060_loss_0.285.pth", 8 * GB),),
        ),
        Repository(
            "text",
            "Qwen/Qwen2.5-1.5B-Instruct",
            "989aa7980e4cf806f80c7fef2b1adb7bc71aa306",
            "Apache-2.0",
            (
                RepoFile("config.json"),
                RepoFile("tokenizer.json"),
                RepoFile("tokenizer_config.json"),
                RepoFile(
                    "model.safetensors",
                    4 * GB,
                    3_087_467_144,
                    "dd924a11b4c220f385b51ffa522daea7c9f3d850e31b162bb5661df483c6d3ee",
                ),
            ),
        ),
        Repository(
            "vision",
            "openai/clip-vit-large-patch14",
            "32bd64288804d66eefd0ccbe215aa642df71cc41",
            "MIT",  # of OpenAI's repository
            (
                RepoFile("config.json"),
                RepoFile("preprocessor_config.json"),
                RepoFile(
                    "model.safetensors",
                    3 * GB,
                    1_710_540_580,
                    "a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb",
                ),
            ),
        ),
        Repository(
            "speech",
            "TencentGameMate/chinese-hubert-large",
            "90cb660492214f687e60f5ca509b20edae6e75bd",
            "MIT",
            (
                RepoFile("config.json"),
                RepoFile("preprocessor_config.json"),
                RepoFile("pytorch_model.bin", 3 * GB),  # its hash is recorded nowhere that we found
            ),
        ),
        Repository(
            "face",
            "kartiknarayan/facexformer",
            "fd12148d0b1949bb98602544d4b257f42eef774d",
            None,
            (
                RepoFile(
                    "ckpts/model.pt",
                    3 * GB,
                    1_104_869_851,
                    "327a755849ba64d336fb96589ff87b27e84a12be1ecf8bcfaa503d66f803286d",
                ),
            ),
        ),
    ),
)
