"""The report of a study: one page of HTML that opens without a network."""
