"""The deploy config: its schema, how it is read, and how it is checked."""

from pipeline.config.load import load_config
from pipeline.config.schema import DeployConfig

__all__ = ["DeployConfig", "load_config"]
