"""Commands that repeat figures of the documentation. They are not part of the test suite."""
