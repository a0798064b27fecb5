"""Benchmarks: each prints what it measured and on which machine. Nothing here is a test."""
