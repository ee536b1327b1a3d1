"""The queue's side of Redis: connections, scripts, and what a claim may come to."""
