"""What a device holds and costs: one TOML file each, every number with its source, and their schema."""

from .schema import Constant, Limits, Profile, list_profiles, load_profile

__all__ = ["Constant", "Limits", "Profile", "list_profiles", "load_profile"]
