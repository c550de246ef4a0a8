"""How publications reach every node and outlive them."""
