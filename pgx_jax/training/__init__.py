"""Multitask PPO: rollouts, losses, the training step, and whole episodes."""
