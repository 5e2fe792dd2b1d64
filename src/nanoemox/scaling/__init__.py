"""Many processes and machines, by Ray: replicas of the server, and many clips answered at once."""
