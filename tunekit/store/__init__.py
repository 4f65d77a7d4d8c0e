"""studies.db: evaluations and decisions in SQLite, and the cache as a view of them.

`tunekit.store.cache` reads the cache with nothing but the standard library; everything else is
`tunekit.store.database`.
"""
