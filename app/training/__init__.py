"""Training of potentials: data, losses, optimisers. Jobs: app/jobs/train.py."""
