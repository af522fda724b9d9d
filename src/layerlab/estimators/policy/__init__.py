"""Policy gradients on environments of gymnasium: REINFORCE, its baselines, and the variance of its gradient."""
