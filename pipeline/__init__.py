"""The conductor: one deploy config in; validated, benchmarked engines and a report out."""

__version__ = "0.1.0"
