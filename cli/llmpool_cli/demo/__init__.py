"""The demo's two providers: a Redis and a model, found on this machine or started for as long as the demo runs."""
