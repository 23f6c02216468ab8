"""Connectors that come with the platform; they use the SDK as strangers would."""
