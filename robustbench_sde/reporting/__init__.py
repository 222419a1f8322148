"""What people see: tables, bars, pages, figures. Reads results, never models."""
