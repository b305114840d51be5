"""What a partition looks like: numbers, a figure, and pages for a dataset's card."""
