"""The engine of all instrumentors: operations as tables, one `begin`, streams watched in place."""
