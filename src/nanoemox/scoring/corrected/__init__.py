"""The default scorer: deterministic word extraction, lexicon and metrics."""
