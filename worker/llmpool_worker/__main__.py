"""``python -m llmpool_worker``."""

from .main import main

main()
