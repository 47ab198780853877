"""The queue of raw spans and its worker (the first stage), and the retried upload of events."""
