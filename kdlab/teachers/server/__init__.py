"""What the remote teacher knows of servers: how they are asked, what they answer, and how they fail."""
