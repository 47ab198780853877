"""What the process does: threads, crashes, signals, forked workers."""
