"""The Analyzer: turns the logs of assistants and editors into events of blocks."""

from learner_service.analyzer.analyzer import Analyzer
from learner_service.analyzer.directories import LogDirectory
from learner_service.analyzer.following import FileStatus

__all__ = ["Analyzer", "FileStatus", "LogDirectory"]
