"""A run as a page, figures and LaTeX tables."""
