"""What upstreams and clients get: identity, headers, paths, JSON shapes."""
