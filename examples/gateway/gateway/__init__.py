"""An OpenAI-style gateway in front of the queue: a template to copy."""
