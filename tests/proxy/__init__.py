"""The generated reverse proxies, tried on the real programs: both must behave alike."""
