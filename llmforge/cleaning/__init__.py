"""Documents to a cleaned corpus: repair, language, published rules, anonymisation, duplicates, and their ledger."""
