"""From corpora to training samples: manifest, targets, overlap filter, mixture, feature cache."""
