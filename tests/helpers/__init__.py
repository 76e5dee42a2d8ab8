"""Tiny models, corpora, servers and processes that several tests use."""
