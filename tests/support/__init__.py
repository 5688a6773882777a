"""Helpers that several tests share: clips, corpora, runs, packages, servers and processes."""
