"""A bundle in the form that others take: Triton's model repository, an OCI registry, Hugging Face.

The engine's bytes are never changed. What is written is written whole or not at all, and replaces only what was written
here and is unchanged since.
"""
