"""From clips and tasks to model inputs: pictures, windows, placeholders, token ids, labels.

The processor alone knows how many placeholder tokens a branch gets, in which order the prompt is laid out
(design, section 3: system, media, history, subtitle, question last) and where the answer begins. Segments are
tokenised apart and joined as ids, in training and at inference, so that no merge crosses a cut and all tasks of
a clip share one prefix.

Letters: ``B`` batch, ``T`` frames, ``W`` speech windows, ``L`` tokens, ``S`` side of a picture in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import AutoFeatureExtractor, AutoTokenizer, BatchFeature, ProcessorMixin, Wav2Vec2FeatureExtractor
from transformers.utils import cached_file

from nanoemox.model.branches import branch_of, present
from nanoemox.model.calibration import FILE_NAME as CALIBRATION
from nanoemox.model.calibration import Calibration, load_calibration
from nanoemox.model.configuration import FUSED, FUSION, IGNORE_INDEX, NanoEmoXConfig
from nanoemox.model.inputs import clip_from_conversation, clips_from_inputs
from nanoemox.tasks import ERG, MER, TASKS, format_label
from nanoemox.tasks.templates import FILE_NAME, Templates, load_templates
from nanoemox.types import SAMPLE_RATE_HZ, CheckpointError, Clip

THINK_TAGS = ("<think>", "</think>")


@dataclass(frozen=True, slots=True)
class Ask:
    """One question about one clip, and in training its answer.

    Attributes:
        task: Task key.
        labels: Candidate labels in the order shown; None takes the task's default list.
        think: ``erg`` only: ask for the chain of empathy before the reply.
        paraphrase: Which question of the template to use; 0 at inference.
        answer: The target text (training), without the terminator.
    """

    task: str
    labels: tuple[str, ...] | None = None
    think: bool = True
    paraphrase: int = 0
    answer: str | None = None


class NanoEmoXProcessor(ProcessorMixin):
    """Clip + task -> model inputs.

    Args:
        feature_extractor: The speech encoder's own (log-mel for Whisper-like encoders; only the sampling rate
            matters for waveform encoders, whose normalisation is a field of the model).
        tokenizer: The language model's tokenizer.
        config: The model's configuration: sizes, grids, token counts come from there and from nowhere else.
        templates: The words; the package's own by default.
        calibration: Corrections of closed answers, where the model carries any.
    """

    def __init__(
        self,
        feature_extractor: Any = None,
        tokenizer: Any = None,
        config: NanoEmoXConfig | None = None,
        templates: Templates | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        self.config = config or NanoEmoXConfig()
        self.templates = templates or load_templates()
        self.calibration = calibration or Calibration(content_free=("N/A",), tasks={})
        if feature_extractor is None:
            feature_extractor = Wav2Vec2FeatureExtractor(sampling_rate=SAMPLE_RATE_HZ, do_normalize=False)
        super().__init__(feature_extractor, tokenizer)

    # ---------------------------------------------------------------- saving and loading

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> NanoEmoXProcessor:
        """Load from a model directory or hub id; no file outside it is touched."""
        source = str(pretrained_model_name_or_path)
        hub = {k: kwargs[k] for k in ("cache_dir", "revision", "token", "local_files_only") if k in kwargs}
        config = NanoEmoXConfig.from_pretrained(source, **hub)
        path, corrections = (
            cached_file(source, name, _raise_exceptions_for_missing_entries=False, **hub)
            for name in (FILE_NAME, CALIBRATION)
        )
        return cls(
            feature_extractor=AutoFeatureExtractor.from_pretrained(source, **hub),
            # Without the configuration the library reads it again as one of no type, and warns about that.
            tokenizer=AutoTokenizer.from_pretrained(source, config=config, **hub),
            config=config,
            templates=load_templates(Path(path) if path else None),
            calibration=load_calibration(Path(corrections)) if corrections else None,
        )

    def save_pretrained(self, save_directory: str | Path, push_to_hub: bool = False, **kwargs: Any) -> list[str]:
        """Write tokenizer, feature extractor, templates and (if the model has not) ``config.json``."""
        folder = Path(save_directory)
        written: list[str] = super().save_pretrained(str(folder), push_to_hub=push_to_hub, **kwargs)
        if not (folder / "config.json").exists():
            self.config.save_pretrained(folder)
        written.append(str(self.templates.save(folder)))
        if self.calibration.tasks or self.calibration.forms:
            (folder / CALIBRATION).write_text(self.calibration.model_dump_json(indent=1) + "\n", "utf-8")
            written.append(str(folder / CALIBRATION))
        return written + [str(path) for path in self.templates.save_decision(folder)]

    def to_dict(self) -> dict[str, Any]:
        """Return what goes into ``processor_config.json``; configuration and templates have their own files."""
        out: dict[str, Any] = super().to_dict()
        for key in ("config", "templates", "calibration"):
            out.pop(key, None)
        return out

    # ---------------------------------------------------------------- media

    def media(self, clip: Clip) -> dict[str, Tensor]:
        """Turn the media of one clip into tensors; a branch that the clip or the model lacks is absent.

        Returns:
            ``pixel_values`` float32[T, 3, S, S]; ``speech_values`` float32[W, samples] or float32[W, mels, steps];
            ``face_values`` float32[T, 3, S, S] or, precomputed, float32[T, F]; those of other branches.

        Raises:
            MediaError: Sound or face vectors hold NaN or infinity, or the vectors are of another width.
        """
        out: dict[str, Tensor] = {}
        for branch in present(self.config).values():
            values = branch.prepare(clip, self.config, self.feature_extractor)
            if values is not None:
                out[branch.raw] = values
        return out

    def branches_of(self, media: Mapping[str, Any]) -> tuple[str, ...]:
        """Name the branches that a clip's media give rise to; fusion needs all that it joins."""
        found = {branch_of(key) for key in media}
        if found >= set(FUSED):
            found.add(FUSION)
        return tuple(b for b in self.config.branches if b in found)

    # ---------------------------------------------------------------- words

    def _ids(self, text: str) -> list[int]:
        whole = text.encode("utf-8", "replace").decode()  # no tokenizer takes half of a surrogate pair
        return self.tokenizer(whole, add_special_tokens=False)["input_ids"]

    def _plain(self, text: str) -> str:
        """Make a user's words one line without special tokens, so that they can forge neither a turn nor media."""
        lines = text.splitlines()
        if len(lines) > 1:
            text = " ".join(filter(None, map(str.strip, lines)))
        return self._without_tokens(text.rstrip("\r\n"))

    def _without_tokens(self, text: str, spare: Sequence[str] = ()) -> str:
        """Break up special tokens by a space, except those to ``spare``."""
        for token in (*self.tokenizer.get_added_vocab(), *self.templates.reserved):
            broken = f"{token[0]} {token[1:]}"
            # Again and again: of ####, a ### is left the first time. A space cannot break up a token of spaces.
            while token in text and token not in broken and token not in spare and token.strip():
                text = text.replace(token, broken)
        return text

    def prefix_ids(self, clip: Clip, branches: Sequence[str]) -> list[int]:
        """Ids of all that precedes the question: the same for every task of a clip."""
        words = self.templates
        ids = self._ids(words.prefix)
        named = words.media | {b: of.sentence for b, of in present(self.config).items() if b not in words.media}
        for branch, sentence in named.items():
            if branch in branches:
                before, after = sentence.split("{tokens}")
                placeholder = self.config.placeholder_token_ids[branch]
                ids += self._ids(before) + [placeholder] * self.config.tokens_per_branch[branch] + self._ids(after)
        if clip.history:
            turns = "".join(
                words.history_turn.format(role=self._plain(t.role), text=self._plain(t.text)) for t in clip.history
            )
            ids += self._ids(words.history.format(history=turns.rstrip("\n")))
        if clip.subtitle:
            ids += self._ids(words.subtitle.format(subtitle=self._plain(clip.subtitle)))
        closing = words.closing_history if clip.history else None
        return ids + self._ids(words.closing if closing is None else closing)

    def question_ids(self, ask: Ask) -> list[int]:
        """Ids of the question and of the text between it and the answer."""
        questions = self.templates.questions_of(ask.task, think=ask.think)
        question = questions[ask.paraphrase % len(questions)]
        # As they are trained on and scored: the spelling of a label must not change the answer.
        labels = tuple(map(format_label, ask.labels or TASKS[ask.task].labels))
        if self.templates.sort_labels:
            labels = tuple(sorted(labels))
        if TASKS[ask.task].closed:
            question = question.format(labels=", ".join(self._plain(label) for label in labels))
        return self._ids(question) + self._ids(self.templates.suffix)

    def decision_ids(self, form: str, instructions: str, options: Sequence[str]) -> list[int]:
        """Ids of a free question of one form, options as shown, and of the text between it and the answer."""
        pattern: str = getattr(self.templates.decisions, form)
        question = pattern.format(instructions=self._plain(instructions), options=", ".join(map(self._plain, options)))
        return self._ids(question) + self._ids(self.templates.suffix)

    def option_ids(self, text: str) -> list[int]:
        """Ids of an option of a free question, as an answer, and its terminator."""
        return self.answer_ids(self._plain(text))

    def answer_ids(self, text: str) -> list[int]:
        """Ids of an answer and its terminator."""
        return self._ids(text) + self.terminator_ids

    def answer_text(self, ask: Ask, text: str) -> str:
        """Put a bare answer into the sentence that the templates answer the question with.

        Labels and written answers are data, so special tokens in them stay text; only a chain keeps its think tags.
        """
        text = self._plain(text) if TASKS[ask.task].closed else self._without_tokens(text, THINK_TAGS)
        return self.templates.answer_of(ask.task, text, think=ask.think)

    @property
    def terminator_ids(self) -> list[int]:
        """Ids that end every answer."""
        return self._ids(self.templates.terminator)

    def prompt_ids(self, clip: Clip, ask: Ask, branches: Sequence[str]) -> list[int]:
        """Ids of a whole prompt."""
        return self.prefix_ids(clip, branches) + self.question_ids(ask)

    # ---------------------------------------------------------------- batches

    def __call__(
        self,
        clips: Clip | Sequence[Clip] | None = None,
        asks: Ask | Sequence[Ask] = Ask(MER.key),
        media: Sequence[Mapping[str, Tensor]] | None = None,
        padding_side: Literal["left", "right"] | None = None,
        *,
        text: str | Sequence[str] | None = None,
        images: Any = None,
        audio: Any = None,
        sampling_rate: int = SAMPLE_RATE_HZ,
    ) -> BatchFeature:
        """Build one batch, one question a clip.

        Args:
            clips: Clips, each with any mix of modalities; None where ``text``, ``images`` or ``audio`` say what they
                are (:func:`nanoemox.model.inputs.clips_from_inputs`).
            asks: One question per clip, or one for all; with answers in all of them, ``labels`` come too.
            media: What :meth:`media` (or the feature cache) gave for each clip; computed here if absent.
            padding_side: ``left`` for generation, ``right`` for training; by default whichever fits.
            text: The words of one clip, or a list of them.
            images: Pictures of one clip, or a list with those of each text.
            audio: Sound of one clip, or a list with that of each text.
            sampling_rate: Rate of the sound in hertz.

        Returns:
            ``input_ids`` int64[B, L], ``attention_mask`` int64[B, L], ``labels`` int64[B, L] (-100 outside the
            answers), and the media of those samples that have them, stacked in the order of the batch.
        """
        if clips is None:
            clips = clips_from_inputs(text, images, audio, sampling_rate)
        clips = [clips] if isinstance(clips, Clip) else list(clips)
        asks = [asks] * len(clips) if isinstance(asks, Ask) else list(asks)
        if len(clips) != len(asks):
            raise ValueError(f"{len(clips)} clip(s) but {len(asks)} question(s): give one question per clip")
        tensors = [self.media(c) for c in clips] if media is None else list(media)
        train = all(a.answer is not None for a in asks)
        prompts = [self.prompt_ids(c, a, self.branches_of(m)) for c, a, m in zip(clips, asks, tensors, strict=True)]
        answers = [self.answer_ids(self.answer_text(a, a.answer or "")) if train else [] for a in asks]
        side = padding_side or ("right" if train else "left")
        batch = self.pad([p + a for p, a in zip(prompts, answers, strict=True)], side)
        if train:
            labels = [[IGNORE_INDEX] * len(p) + a for p, a in zip(prompts, answers, strict=True)]
            batch["labels"] = _pad(labels, IGNORE_INDEX, side)
        keys = dict.fromkeys(k for m in tensors for k in m)
        batch.update({k: torch.stack([m[k] for m in tensors if k in m]) for k in keys})
        return BatchFeature(batch)

    def apply_chat_template(
        self, conversation: Sequence[Mapping[str, Any]], ask: Ask = Ask(ERG.key), *, tokenize: bool = True
    ) -> BatchFeature | str:
        """Build the inputs of one question about a conversation (:func:`nanoemox.model.inputs.clip_from_conversation`).

        The layout is that of the templates, which the model was trained with. ``tokenize=False`` gives it as text.
        """
        batch = self(clip_from_conversation(conversation), ask)
        return batch if tokenize else str(self.tokenizer.decode(batch["input_ids"][0]))

    def pad(self, sequences: Sequence[Sequence[int]], side: Literal["left", "right"]) -> dict[str, Tensor]:
        """Pad id lists to one length: ``input_ids`` and ``attention_mask``, int64[B, L]."""
        pad_id = self.tokenizer.pad_token_id
        if pad_id is None:
            raise CheckpointError("the tokenizer has no pad token: set tokenizer.pad_token before saving it")
        return {
            "input_ids": _pad(sequences, pad_id, side),
            "attention_mask": _pad([[1] * len(s) for s in sequences], 0, side),
        }


def ends_with(ids: Tensor, terminator: Tensor) -> Tensor:
    """Say which rows of int64[R, N] end with int64[n]: bool[R]."""
    if ids.shape[1] < len(terminator):
        return torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    return (ids[:, ids.shape[1] - len(terminator) :] == terminator).all(dim=1)


def _pad(sequences: Sequence[Sequence[int]], value: int, side: str) -> Tensor:
    length = max(len(s) for s in sequences)
    fill = [[value] * (length - len(s)) for s in sequences]
    rows = [f + list(s) if side == "left" else list(s) + f for f, s in zip(fill, sequences, strict=True)]
    return torch.tensor(rows, dtype=torch.long)
