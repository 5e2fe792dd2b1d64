"""The model: frozen encoders, adapters, fusion, splice, language model."""
