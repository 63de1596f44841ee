"""Captures of the sources, each consistent in itself: databases, Redis servers, files."""
