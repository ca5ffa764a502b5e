"""Ways to execute a layer, and the choice among them."""
