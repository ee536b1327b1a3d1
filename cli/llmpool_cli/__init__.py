"""The ``llmpool`` command. Each subcommand is imported when it is called: ``llmpool --help`` needs none of them."""
