"""Faces in frames: detectors, tracks, crops."""
