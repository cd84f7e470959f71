"""Numbers and their names: metrics, cells of tables, tests over folds, bootstrap."""
