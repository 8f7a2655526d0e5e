"""Face corpora: published photographs and drawn faces, brought into one table."""
