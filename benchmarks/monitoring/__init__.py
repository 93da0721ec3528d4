"""What monitoring costs and how soon it acts."""
