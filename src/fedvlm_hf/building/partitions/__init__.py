"""Which rows go to which client: one rule per file, pure functions of their arguments and a seed.

`iid`, `by_column`, `dirichlet` and `by_file` return one list of ascending row indices per client; `holdout` sets test
images aside first; `assemble` combines both into a configuration of a builder.
"""
