"""Tests of what both services do alike."""
