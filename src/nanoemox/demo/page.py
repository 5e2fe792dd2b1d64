"""The widgets of the page and what they call. Gradio's own pages load fonts and scripts from the network: none here."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Any, Final, TypeVar

import gradio as gr

from nanoemox.demo.asking import Asking, Given
from nanoemox.reporting.answer_chart import WIDTH
from nanoemox.reporting.answer_page import style_sheet
from nanoemox.types import NanoEmoXError, Turn

T = TypeVar("T")
TITLE: Final = "nanoemox"
CONSENT: Final = (
    "Reading emotion is error-prone, and in places illegal: at work and in education it is banned in the EU. What you "
    "see is a guess about how somebody comes across. **Nothing leaves this machine**; what you record or choose is "
    "deleted after ten minutes, and when the page's server ends."
)
AGREED: Final = "Everybody who is seen or heard in the clip has agreed to this"
QUESTIONS: Final = (
    "predicate: Is the speaker joking?\nchoice: Who is meant? a friend|a stranger|nobody\n"
    "score: How tense is the voice? calm|uneasy|tense"
)
FOLLOW: Final = f"""
const follow = () => {{
  if (!element.isConnected) return;
  const video = document.querySelector('#clip video');
  for (const drawing of element.querySelectorAll('svg.along')) {{
    const line = drawing.querySelector('.cursor'), duration = Number(drawing.dataset.duration);
    if (!line || !video || !(duration > 0)) continue;
    const x = {WIDTH:g} * Math.min(1, video.currentTime / duration);
    line.setAttribute('x1', x); line.setAttribute('x2', x); line.setAttribute('visibility', 'visible');
  }}
  requestAnimationFrame(follow);
}};
requestAnimationFrame(follow);
"""
"""Moves the line in the drawings to where the video is; the page's own code, which holds nothing of a clip."""


def theme() -> gr.themes.Base:
    """Return a theme of the reader's own fonts: Gradio's are fetched from the network."""
    return gr.themes.Base(primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])


def css() -> str:
    """Return the style of the cards."""
    return style_sheet()


def build(asking: Asking) -> gr.Blocks:
    """Return the page.

    Args:
        asking: What answers.
    """
    page = gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(60, 600))
    with page:
        gr.Markdown(f"# {TITLE}\nOne clip of a talking person in, six answers out. {CONSENT}")
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                video = gr.Video(label="Clip", sources=["upload", "webcam"], include_audio=True, elem_id="clip")
                timeline = gr.HTML(js_on_load=FOLLOW, elem_id="timeline")
                sound = gr.Audio(
                    label="Or sound alone", sources=["microphone", "upload"], type="filepath", elem_id="sound"
                )
                words = gr.Textbox(
                    label="What is said (left empty: what is found or heard)", lines=2, max_length=20_000
                )
                agreed = gr.Checkbox(label=AGREED, elem_id="agreed")
                given: list[Any] = [video, sound, words, agreed]
                with gr.Row():
                    ask = gr.Button("Answer", variant="primary", elem_id="ask")
                    every = gr.Slider(1, 10, 2, step=0.5, label="Seconds between points")
                    along = gr.Button("Along the clip", elem_id="along")
                sample = str(files("nanoemox") / "assets" / "sample.mp4")
                gr.Examples([[sample, "I finally got the job!"]], [video, words], label="An example")
            with gr.Column(scale=3, min_width=320):
                card = gr.HTML(elem_id="card")
        with gr.Row():
            with gr.Column(min_width=320):
                gr.Markdown(
                    "### Ask your own\nOne question a line; they are free, so the answers are the less certain."
                )
                questions = gr.Textbox(QUESTIONS, label="Questions", lines=4, max_length=100_000)
                decide = gr.Button("Decide", elem_id="decide")
                decided = gr.Dataframe(headers=["question", "answer", "probabilities"], wrap=True, interactive=False)
            with gr.Column(min_width=320):
                gr.Markdown("### Talk\nThe clip's face and voice are read with your words where a clip is given.")
                talk = gr.Chatbot(label="Talk", sanitize_html=True, allow_tags=False, buttons=["copy"])
                message = gr.Textbox(label="You", max_length=20_000, elem_id="message")
        show: dict[str, Any] = {"show_progress": "minimal", "concurrency_id": "model", "concurrency_limit": 1}
        ask.click(_card(asking), given, card, api_name="answer", **show)
        along.click(_timeline(asking), [*given, every], timeline, api_name="timeline", **show)
        decide.click(_decide(asking), [*given, questions], decided, api_name="decide", **show)
        message.submit(_talk(asking), [*given, message, talk], [message, talk], api_name="talk", **show)
    return page


def _card(asking: Asking) -> Callable[..., str]:
    def answer(video: str | None, sound: str | None, words: str, agreed: bool) -> str:
        return _framed(_told(lambda: asking.card(Given(video, sound, words or "", agreed))))

    return answer


def _timeline(asking: Asking) -> Callable[..., str]:
    def timeline(video: str | None, sound: str | None, words: str, agreed: bool, every_s: float) -> str:
        return _framed(_told(lambda: asking.timeline(Given(video, sound, words or "", agreed), float(every_s))))

    return timeline


def _decide(asking: Asking) -> Callable[..., list[list[str]]]:
    def decide(video: str | None, sound: str | None, words: str, agreed: bool, questions: str) -> list[list[str]]:
        return _told(lambda: asking.decide(Given(video, sound, words or "", agreed), questions or ""))

    return decide


def _talk(asking: Asking) -> Callable[..., tuple[str, list[Any]]]:
    def talk(
        video: str | None, sound: str | None, words: str, agreed: bool, message: str, before: list[Any] | None
    ) -> tuple[str, list[Any]]:
        turns = list(before or [])
        history = [Turn("user" if t["role"] == "user" else "assistant", _text(t)) for t in turns if not _is_chain(t)]
        given = Given(video, sound, words or "", agreed)
        reply, think = _told(lambda: asking.reply(given, message or "", history))
        turns.append({"role": "user", "content": message})
        if think is not None:
            chain = f"{think.scenario}\n\n{think.emotion}\n\n{think.cause}\n\n{think.goal}"
            folded = {"title": "How it came to this reply", "status": "done"}
            turns.append({"role": "assistant", "content": chain, "metadata": folded})
        turns.append({"role": "assistant", "content": reply})
        return "", turns

    return talk


def _is_chain(turn: dict[str, Any]) -> bool:
    return bool((turn.get("metadata") or {}).get("title"))


def _text(turn: dict[str, Any]) -> str:
    """Return the words of a turn; Gradio gives them back as a list of parts."""
    content = turn["content"]
    return content if isinstance(content, str) else " ".join(str(part.get("text", "")) for part in content)


def _framed(card: str) -> str:
    return f'<div class="nx">{card}</div>'


def _told(action: Callable[[], T]) -> T:
    """Show a mistake as a sentence."""
    try:
        return action()
    except NanoEmoXError as error:
        raise gr.Error(str(error), print_exception=False) from None
