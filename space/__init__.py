"""What can be searched: the algebra of Einsum structures, their cost, their realisation in integers."""
