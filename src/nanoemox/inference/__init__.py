"""The engine: one clip in, answers out."""
