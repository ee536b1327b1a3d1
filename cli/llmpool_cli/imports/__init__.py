"""``llmpool import``: a pool from what scales workers today."""
