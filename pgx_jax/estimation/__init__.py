"""What adapting a policy to a subset of tasks would do, estimated from gradients."""
