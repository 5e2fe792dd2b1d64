"""P2E training: phases as data, one loop."""
