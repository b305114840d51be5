"""Reports on partitions: numbers, a figure, and Markdown pages."""
