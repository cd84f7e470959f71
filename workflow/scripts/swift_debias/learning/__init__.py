"""Networks and their training: samples, losses, the loop, inference, cost."""
