"""What the attention of a user's model does, by layer and head, and what could stand in its place."""
