"""Bundles made and signed on the host; what reads them is `export.runtime.bundle`."""
