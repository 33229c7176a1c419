"""What the backend's other packages share."""
