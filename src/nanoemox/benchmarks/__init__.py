"""Benchmarks: records, truth, predictions, scores."""
