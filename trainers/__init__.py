"""What a trial is: layers, models, their learning rates, their cost, and the loop that trains them."""
