"""``llmpool top``: pools, queues, workers and models at a glance, live."""
