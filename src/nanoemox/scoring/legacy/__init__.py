"""The published protocol, quirks included."""
