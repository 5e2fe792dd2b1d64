"""A voice agent of LiveKit that hears how you sound.

pip install 'nanoemox[livekit]'; python -m livekit.agents start examples/livekit_agent.py
Set LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET: they reach your room and LiveKit's own speech and language.
"""

from __future__ import annotations

from livekit.agents import Agent, AgentServer, AgentSession, ChatContext, ChatMessage, JobContext, inference

from nanoemox import Engine
from nanoemox.serving.plugins.livekit import SpeakerSTT

server = AgentServer()


class Companion(Agent):
    def __init__(self, hearing: SpeakerSTT) -> None:
        super().__init__(instructions="You are a warm companion. Answer in one or two sentences.", stt=hearing)
        self.hearing = hearing

    async def on_user_turn_completed(self, turn_ctx: ChatContext, new_message: ChatMessage) -> None:
        await self.hearing.attach(turn_ctx, new_message)


@server.rtc_session()
async def talk(ctx: JobContext) -> None:
    hearing = SpeakerSTT(stt=inference.STT("deepgram/nova-3"), engine=Engine.from_pretrained())
    hearing.on("speaker_context", lambda context: print(context.to_instructions()))
    session = AgentSession(llm=inference.LLM("openai/gpt-4.1-mini"), tts=inference.TTS("cartesia/sonic-3"))
    await session.start(agent=Companion(hearing), room=ctx.room)
