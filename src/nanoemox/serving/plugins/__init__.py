"""Adapters for voice-agent frameworks: LiveKit Agents and Pipecat."""
