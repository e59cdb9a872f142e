"""Training: the objective, the schedule, the optimizers, and the one loop."""
