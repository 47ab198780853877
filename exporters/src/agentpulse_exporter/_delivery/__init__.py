"""The batch queue and its worker, and the upload of events with its retries."""
