"""What is known: the schema, the ledger of trials, its queries, and the laws fitted to them."""
