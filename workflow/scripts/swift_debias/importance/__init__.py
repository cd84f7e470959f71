"""How much every weight matters, and the masks made of it (Eq. 5 to 9)."""
