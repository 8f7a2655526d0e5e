"""Rates, ROC curves and intervals of plain arrays, without networks, corpora or files."""
