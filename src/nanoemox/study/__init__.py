"""Blind ratings by people."""
