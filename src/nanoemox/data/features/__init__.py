"""The cache of encoder features."""
