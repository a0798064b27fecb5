"""What the Learner keeps: one LMDB environment, and what its transactions can read and change."""
