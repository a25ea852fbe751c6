"""What each notebook compares, and the tables and findings it draws from the finished runs."""
