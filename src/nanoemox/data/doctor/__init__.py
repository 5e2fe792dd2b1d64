"""Checks of data sets."""
