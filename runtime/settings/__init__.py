"""The settings of every process: what there is (`values`), and where it is read from (`load`)."""

from runtime.settings.load import SettingsError, load_settings
from runtime.settings.values import GatewaySettings, ModelSettings, ProjectionSettings, Security, Settings

__all__ = [
    "GatewaySettings",
    "ModelSettings",
    "ProjectionSettings",
    "Security",
    "Settings",
    "SettingsError",
    "load_settings",
]
