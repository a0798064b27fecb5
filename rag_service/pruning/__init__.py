"""Ranks rows by codes of them, which prove of most that they are not among the best; `scan.py` has the
proof.
"""
