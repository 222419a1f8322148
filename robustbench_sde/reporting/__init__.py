"""Draw tables, progress bars, pages and figures from stored results; no model is loaded."""
