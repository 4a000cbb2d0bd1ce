"""Training: what is shared by the base model's, the generator's and the gate's."""
