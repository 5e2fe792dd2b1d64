"""Clients of language models, and their prompts."""
