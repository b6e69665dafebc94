"""What learning curves show: verdicts, advice and comparisons, as pure functions."""
