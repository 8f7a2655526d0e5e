"""Results as a file (results.json), as text, as figures and as one page."""
