"""From raw folders to folds: reading, manifests, image caches, duplicates, skin tone."""
