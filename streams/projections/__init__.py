"""Views as pure folds, each beside the table it fills."""
