"""Certificates: read, chosen by name, renewed while connections live, or made for development."""
