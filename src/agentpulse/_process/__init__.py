"""The process: context in its threads, crashes, signals, workers."""
