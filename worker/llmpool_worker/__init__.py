"""The worker: claim, check, run, settle, tell."""
