"""The folder that goes to the Hub: the model with its code and its card, published by one command."""
