"""A pipeline of Pipecat whose language model is told how you sound. Bring your own transport and services.

pip install 'nanoemox[pipecat]'; from examples.pipecat_bot import pipeline
"""

from __future__ import annotations

from pipecat.pipeline.pipeline import Pipeline
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair, LLMUserAggregatorParams
from pipecat.processors.frame_processor import FrameProcessor

from nanoemox import Engine
from nanoemox.serving.plugins.pipecat import SpeakerProcessor

PROMPT = "You are a warm companion. Answer in one or two sentences."


def pipeline(
    *,
    incoming: FrameProcessor,
    stt: FrameProcessor,
    llm: FrameProcessor,
    tts: FrameProcessor,
    outgoing: FrameProcessor,
    engine: Engine | None = None,
    user: LLMUserAggregatorParams | None = None,
) -> Pipeline:
    """From the user's microphone to the bot's voice; ``incoming`` and ``outgoing`` are a transport's two ends."""
    talk = LLMContextAggregatorPair(LLMContext([{"role": "system", "content": PROMPT}]), user_params=user)
    speaker = SpeakerProcessor(engine or Engine.from_pretrained())
    return Pipeline([incoming, stt, talk.user(), speaker, llm, tts, outgoing, talk.assistant()])
