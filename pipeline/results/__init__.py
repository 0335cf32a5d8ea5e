"""What a run found, as data: the result, its budgets and verdict, comparisons."""
