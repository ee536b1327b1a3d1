"""From a size that was decided to steps: who goes, who is asked to drain first, and what is told to the workers."""
