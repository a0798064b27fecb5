"""The format private to the RAG service."""
