"""What learning curves show: facts, verdicts, ties and advice, as pure functions."""
