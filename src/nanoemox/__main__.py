"""``python -m nanoemox``."""

from nanoemox.cli import main

main()
