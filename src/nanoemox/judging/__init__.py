"""Clients of language models, and what they are asked."""
