"""Whoever speaks to somebody: providers, mail servers, people at a terminal, programs over HTTP.

An adapter turns what it hears into the domain's values and errors; `cli` and `http` turn those into what they say.
"""
