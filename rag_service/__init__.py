"""The RAG service: follows the Learner and answers searches from memory."""
