"""What needs estimation and training: rollout evaluator, sums over rollouts, oracle."""
