"""Face corpora: published photographs and drawn faces as tables of aligned faces.

`python -m face_data` prepares a corpus, and the training and the evaluation load it with `table`. Read `__main__` next.
"""
