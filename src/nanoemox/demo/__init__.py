"""The page for people who want to look: a clip in, the card, its timeline, questions of one's own, a talk."""
