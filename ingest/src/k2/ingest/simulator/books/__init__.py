"""What a simulated exchange sends of its order books."""
