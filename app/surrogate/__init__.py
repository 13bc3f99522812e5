"""Convolutional recurrent networks that take the place of phase-field steps. Jobs: app/jobs/train_surrogate.py, rollout.py, evaluate_surrogate.py."""
