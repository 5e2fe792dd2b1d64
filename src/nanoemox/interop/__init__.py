"""Benchmarks for other harnesses."""
