"""What instrumentors are made with: operations as tables, streams in place, one end a span."""
