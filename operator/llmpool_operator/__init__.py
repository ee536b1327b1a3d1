"""The operator: watch -> observe -> decide -> act -> report."""
