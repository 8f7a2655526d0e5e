"""Embeddings and expression probabilities of the images of a corpus, computed once and cached."""
