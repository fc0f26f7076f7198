"""Sentences for people. The store and the API hold codes; this package has the sentence of each code, once."""
