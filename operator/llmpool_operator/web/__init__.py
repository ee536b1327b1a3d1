"""The operator's page: what it knows, for people, over HTTP. Only reads."""
