"""Measures routers on outcomes that are already logged; calls no model."""
