"""The version of this distribution, also where its metadata is not installed with it."""

VERSION = "2.0.0"
