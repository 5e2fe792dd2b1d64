"""Our scorer: what is asked for is what is scored."""
