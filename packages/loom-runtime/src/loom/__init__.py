"""Loom: durable virtual actors and workflows in plain async Python."""
