"""The ends that a decision acts on: a Deployment, local processes."""
