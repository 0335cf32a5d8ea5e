"""Bundles brought to devices. What happens there is `export.runtime.install`; the connection is `pipeline.devices`."""
