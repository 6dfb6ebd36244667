"""How the embedded assets were made."""
