"""Tables: a cache of the folds' rows on RocksDB. Any of them can be thrown away and rebuilt from the journal."""
