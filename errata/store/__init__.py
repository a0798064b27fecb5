"""Formats private to the Learner."""
