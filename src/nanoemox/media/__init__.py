"""From a path, bytes, a file object or arrays to a ``Clip``."""
