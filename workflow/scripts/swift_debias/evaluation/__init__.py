"""Numbers and their names: metrics, cells of tables, tests over folds, intervals, noise floors."""
