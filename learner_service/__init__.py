"""The Learner: keeps blocks and examples, derives examples, and announces every change."""
