"""``llmpool batch``."""
