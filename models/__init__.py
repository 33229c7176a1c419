"""The backend's models."""
