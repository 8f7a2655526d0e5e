"""Builds and publishes the model's folder for the Hub: weights, code and card. `python -m hub_card` runs it.

Read `package` first, which builds the folder, then `push`, which publishes it.
"""
