"""Every figure of docs/figures.md comes from a command here."""
