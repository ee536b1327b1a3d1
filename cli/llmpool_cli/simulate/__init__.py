"""``llmpool simulate``: a trace of jobs in virtual time, through the operator's decisions and through its peers'."""
