"""Multitask PPO: acting, losses, the training step, evaluation and adaptation."""
