"""Benchmarks: what is asked, what is right, how an answer is scored, and how the published numbers came about."""
