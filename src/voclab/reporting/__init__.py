"""What people read: notebooks, the gallery, pages."""
