"""Conformance suites: importable pytest classes that prove what an adapter declares, one a port."""

import pkgutil

import pytest

# Before any of them is imported, so that a failing assert in a suite shows its values as it does in a test file.
pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__)))
