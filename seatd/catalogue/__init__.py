"""What is sold: products and price lists (pure)."""
