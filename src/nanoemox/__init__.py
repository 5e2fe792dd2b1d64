"""Nano-EmoX: from a clip of a talking person to six affective answers."""
