"""The way of ended spans: they wait in a bounded queue, and one worker has them sent."""
