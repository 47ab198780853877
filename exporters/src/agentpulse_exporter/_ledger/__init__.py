"""One call, one cost: which spans are priced, which exporter sends them, and the tree of them."""
