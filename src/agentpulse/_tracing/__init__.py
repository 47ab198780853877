"""Sessions, cron runs, and spans of the program's own functions."""
