"""Which rows go to which client: one rule a file, pure functions of their arguments and a seed.

`iid`, `by_column`, `dirichlet`, `quantity` and `by_file` make clients as lists of ascending row indices; `holdout`
takes test images out before them; `assemble` makes a builder's configuration of both; `statistics` measures the skew.
"""
