"""Which models are held in a server's memory, and whose jobs may be taken: decided once for all of its workers."""
