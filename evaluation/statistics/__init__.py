"""Rates, ROC curves and intervals on plain arrays; knows nothing of networks, corpora or files."""
