"""Register configuration, processor and model with the transformers Auto classes (``import nanoemox.model.auto``)."""

from __future__ import annotations

from transformers import AutoConfig, AutoModel, AutoModelForMultimodalLM, AutoProcessor

from nanoemox.model.configuration import NanoEmoXConfig
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.model.processing import NanoEmoXProcessor

AutoConfig.register(NanoEmoXConfig.model_type, NanoEmoXConfig, exist_ok=True)
AutoProcessor.register(NanoEmoXConfig, NanoEmoXProcessor, exist_ok=True)
AutoModel.register(NanoEmoXConfig, NanoEmoXForConditionalGeneration, exist_ok=True)
AutoModelForMultimodalLM.register(NanoEmoXConfig, NanoEmoXForConditionalGeneration, exist_ok=True)
