"""The ledger: prices each call once, and keeps each span's owner, its sent parent, its process."""
